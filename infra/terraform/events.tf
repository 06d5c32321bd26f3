# Every event, for questions asked later: a row per message. The same event may arrive twice, with two message ids.

locals {
  event_columns = {
    schema_version  = "INTEGER"
    kind            = "STRING"
    at              = "TIMESTAMP"
    who             = "STRING"
    summary         = "STRING"
    market          = "STRING"
    trade_id        = "STRING"
    intent_id       = "STRING"
    account         = "STRING"
    client_order_id = "STRING"
    # Of the message itself:
    subscription_name = "STRING"
    message_id        = "STRING"
    publish_time      = "TIMESTAMP"
    attributes        = "JSON"
  }
}

resource "google_bigquery_dataset" "events" {
  #checkov:skip=CKV_GCP_81:Google's own encryption at rest is what every other record of this project has; a key of ours would be one more thing to lose
  dataset_id  = "twinleg"
  location    = var.region
  description = "What twinleg announced"

  depends_on = [google_project_service.needed]
}

resource "google_bigquery_table" "events" {
  #checkov:skip=CKV_GCP_80:Google's own encryption at rest is what every other record of this project has; a key of ours would be one more thing to lose
  dataset_id          = google_bigquery_dataset.events.dataset_id
  table_id            = "events"
  deletion_protection = var.deletion_protection
  clustering          = ["kind", "trade_id"]
  schema = jsonencode([
    for name, type in local.event_columns : { name = name, type = type, mode = "NULLABLE" }
  ])

  time_partitioning {
    type  = "DAY"
    field = "publish_time"
  }
}

resource "google_pubsub_subscription" "events" {
  name                       = "bigquery-events"
  topic                      = google_pubsub_topic.topic["events"].name
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"

  bigquery_config {
    table               = "${var.project}.${google_bigquery_table.events.dataset_id}.${google_bigquery_table.events.table_id}"
    use_table_schema    = true
    write_metadata      = true
    drop_unknown_fields = true
  }

  retry_policy {
    minimum_backoff = local.topics["events"].backoff_min
    maximum_backoff = local.topics["events"].backoff_max
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["events-dead"].id
    max_delivery_attempts = local.topics["events"].attempts
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_bigquery_table_iam_member.agent]
}
