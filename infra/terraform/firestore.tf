resource "google_firestore_database" "records" {
  name        = "(default)"
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  concurrency_mode                  = "OPTIMISTIC"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.needed]
}

# signal asks which entries of a market are still waiting. Equality alone could do without this index, by merging
# three; with it the cost does not grow with the market's history. The emulator never asks for an index.
resource "google_firestore_index" "waiting_intents" {
  database   = google_firestore_database.records.name
  collection = "intents"

  fields {
    field_path = "market"
    order      = "ASCENDING"
  }
  fields {
    field_path = "decision"
    order      = "ASCENDING"
  }
  fields {
    field_path = "status"
    order      = "ASCENDING"
  }
}

# Long or packed fields that nobody searches: an index on them would be written with each record and never read.
# The two queries with an order (trades by created_at, audit by at) use the indexes every field has by itself.
resource "google_firestore_field" "unindexed" {
  for_each = {
    for name in [
      "actions.z_record", "books.z_positions", "books.z_trades", "intents.z_message", "markets.z_candles",
      "markets.z_missing_ms", "markets.z_unpublished_ms", "trades.z_record",
    ] : name => { collection = split(".", name)[0], field = split(".", name)[1] }
  }

  database   = google_firestore_database.records.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# Deleted by Firestore, within a day after the time in expire_at; a record without it is kept. Nobody searches by it, and
# times that only grow would make its index a bottleneck.
resource "google_firestore_field" "expiring" {
  for_each = toset(["actions", "alerts", "audit"])

  database   = google_firestore_database.records.name
  collection = each.value
  field      = "expire_at"

  ttl_config {}
  index_config {}
}

# Functions and people with a role in the project are not subject to these rules; browsers and phones are.
resource "google_firebaserules_ruleset" "deny" {
  source {
    files {
      name    = "firestore.rules"
      content = file("${path.module}/firestore.rules")
    }
  }

  depends_on = [google_firestore_database.records]
}

resource "google_firebaserules_release" "deny" {
  name         = "cloud.firestore"
  ruleset_name = google_firebaserules_ruleset.deny.name
}
