resource "google_pubsub_topic" "topic" {
  #checkov:skip=CKV_GCP_83:Google's own encryption at rest is what every other record of this project has; a key of ours would be one more thing to lose
  for_each = local.topics

  name                       = each.key
  message_retention_duration = "604800s"

  depends_on = [google_project_service.needed]
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83:Google's own encryption at rest is what every other record of this project has; a key of ours would be one more thing to lose
  for_each = local.dead_topics

  name = each.value

  depends_on = [google_project_service.needed]
}

# A topic without a subscription loses what is published to it. Nobody pulls this one but a person.
resource "google_pubsub_subscription" "dead" {
  for_each = google_pubsub_topic.dead

  name                       = each.key
  topic                      = each.value.name
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "push" {
  for_each = { for topic, name in local.pushed : topic => name if contains(keys(local.deployed), name) }

  name                       = "${each.value}-${each.key}"
  topic                      = google_pubsub_topic.topic[each.key].name
  ack_deadline_seconds       = local.functions[each.value].ack_seconds
  enable_message_ordering    = local.topics[each.key].ordered
  message_retention_duration = "604800s"

  push_config {
    # The path tells the function which topic a message is from.
    push_endpoint = "${module.function[each.value].uri}/topics/${each.key}"

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = module.function[each.value].uri
    }
  }

  retry_policy {
    minimum_backoff = local.topics[each.key].backoff_min
    maximum_backoff = local.topics[each.key].backoff_max
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["${each.key}-dead"].id
    max_delivery_attempts = local.topics[each.key].attempts
  }

  expiration_policy {
    ttl = ""
  }

  lifecycle {
    precondition {
      condition     = local.functions[each.value].timeout_seconds < local.functions[each.value].ack_seconds
      error_message = "${each.value}: timeout_seconds must be below ack_seconds, or a slow message is delivered again for ever."
    }
  }
}
