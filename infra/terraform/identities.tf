# One account per function, and one for each of the two that call them. Roles are on the very topic, secret or
# service; only Firestore's is on the project, because Firestore has none finer for the default database.

resource "google_service_account" "function" {
  for_each = local.functions

  account_id   = "fn-${each.key}"
  display_name = "twinleg ${each.key}"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "push" {
  account_id   = "pubsub-push"
  display_name = "Pub/Sub, calling the functions that topics are pushed to"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "scheduler" {
  account_id   = "scheduler"
  display_name = "Scheduler, calling ingest and risk"

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "datastore" {
  for_each = { for name, f in local.functions : name => f if f.store }

  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.function[each.key].member
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = merge([
    for name, f in local.functions : { for topic in f.publishes : "${name}/${topic}" => { name = name, topic = topic } }
  ]...)

  topic  = endswith(each.value.topic, "-dead") ? google_pubsub_topic.dead[each.value.topic].name : google_pubsub_topic.topic[each.value.topic].name
  role   = "roles/pubsub.publisher"
  member = google_service_account.function[each.value.name].member
}

# -- Pub/Sub's own account: moves dead letters, signs what it pushes, writes events ----------------------------------

locals {
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic_iam_member" "agent" {
  for_each = toset([for topic in keys(local.topics) : "${topic}-dead"])

  topic  = google_pubsub_topic.dead[each.value].name
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent" {
  for_each = google_pubsub_subscription.push

  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent_events" {
  subscription = google_pubsub_subscription.events.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_service_account_iam_member" "agent" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}

resource "google_bigquery_table_iam_member" "agent" {
  dataset_id = google_bigquery_dataset.events.dataset_id
  table_id   = google_bigquery_table.events.table_id
  role       = "roles/bigquery.dataEditor"
  member     = local.pubsub_agent
}
