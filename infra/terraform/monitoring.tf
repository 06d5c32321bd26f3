# What a person is told. Two sources: the platform's own metrics, and events. An event of an alarming kind is kept in
# a subscription of its own that nobody reads but a person; something in it is the alarm. That needs no log line and
# loses nothing. It falls silent when the person has read it, or after a day:
#   gcloud pubsub subscriptions pull alarm-unhedged --auto-ack --limit=100

locals {
  alarms = {
    unhedged = {
      kinds    = ["unwound", "orphan", "needs_a_person"]
      severity = "CRITICAL"
      title    = "A trade without its hedge, or a position without an owner"
      text     = "A main leg was unwound because its hedge could not be placed, a position was found that nobody recorded, or a step could not be decided. Look at the collection trades for the state NEEDS_A_PERSON, then at the venue."
    }
    breaker = {
      kinds    = ["breaker", "halted"]
      severity = "CRITICAL"
      title    = "A breaker tripped or trading was halted"
      text     = "No new entries until a person resumes. The reason stands in the document control/trading."
    }
    margin = {
      kinds    = ["warned", "margin_added", "cut", "protected"]
      severity = "WARNING"
      title    = "A leg is nearing liquidation"
      text     = "The protection ladder warned, added margin, cut a trade, or had to place a missing stop again. Look at margin_ratio in accounts and at trades; refill the account or close."
    }
    drift = {
      kinds    = ["corrected", "gap", "candle_suspect"]
      severity = "WARNING"
      title    = "Records or prices drifted from the venue"
      text     = "What we recorded was corrected to what the venue holds, or a candle was missing or moved too far to be believed."
    }
  }

  watched = { for name, alarm in local.alarms : name => alarm if name != "margin" || var.margin_ratio_alert }

  # Days since 1970 of a civil date (months counted from March), because a query can only compare seconds.
  expiry_day   = var.agent_keys_expire_on == null ? "1970-01-01" : var.agent_keys_expire_on
  expiry_month = tonumber(substr(local.expiry_day, 5, 2))
  expiry_year  = tonumber(substr(local.expiry_day, 0, 4)) - (local.expiry_month <= 2 ? 1 : 0)
  expiry_days = (
    365 * local.expiry_year + floor(local.expiry_year / 4) - floor(local.expiry_year / 100) + floor(local.expiry_year / 400)
    + floor((153 * (local.expiry_month + (local.expiry_month > 2 ? -3 : 9)) + 2) / 5)
    + tonumber(substr(local.expiry_day, 8, 2)) - 1 - 719468
  )
  expiry_warned_at = (local.expiry_days - 14) * 86400

  run_requests = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\""
  backlog      = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
  oldest       = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
}

resource "google_monitoring_notification_channel" "person" {
  display_name = "twinleg: a person"
  type         = "email"
  labels       = { email_address = var.notification_email }

  depends_on = [google_project_service.needed]
}

resource "google_pubsub_subscription" "alarm" {
  for_each = local.watched

  name                       = "alarm-${each.key}"
  topic                      = google_pubsub_topic.topic["events"].name
  filter                     = join(" OR ", [for kind in each.value.kinds : "attributes.kind = \"${kind}\""])
  ack_deadline_seconds       = 60
  message_retention_duration = "86400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_monitoring_alert_policy" "alarm" {
  for_each = local.watched

  display_name          = each.value.title
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "events of the kinds ${join(", ", each.value.kinds)}"
    condition_threshold {
      filter          = "${local.backlog} AND resource.labels.subscription_id=\"${google_pubsub_subscription.alarm[each.key].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "${each.value.text}\n\nRead and silence: `gcloud pubsub subscriptions pull alarm-${each.key} --project=${var.project} --auto-ack --limit=100`"
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "A message could not be handled"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "a dead-letter subscription is not empty"
    condition_threshold {
      filter          = "${local.backlog} AND resource.labels.subscription_id=monitoring.regex.full_match(\".*-dead\")"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "Each carries its reason as an attribute. Look without taking: `gcloud pubsub subscriptions pull closes-dead --project=${var.project} --limit=10`. A close that died is an exit that did not happen."
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "queue_stuck" {
  display_name          = "Messages wait to be handled"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "the oldest message is older than two minutes"
    condition_threshold {
      filter          = "${local.oldest} AND resource.labels.subscription_id=monitoring.regex.full_match(\"(signal|execute)-.*\")"
      comparison      = "COMPARISON_GT"
      threshold_value = 120
      duration        = "60s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "Entries older than their expiry are refused when they arrive; closes never expire, so look there first."
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "missed" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "schedule" }

  display_name          = each.key == "risk" ? "The sweep was missed" : "Candles were not fetched"
  combiner              = "OR"
  severity              = each.key == "risk" ? "CRITICAL" : "ERROR"
  enabled               = !var.paused && var.image != null
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "no successful call of ${each.key} in three minutes"
    condition_absent {
      filter   = "${local.run_requests} AND resource.labels.service_name=\"${each.key}\" AND metric.labels.response_code_class=\"2xx\""
      duration = "180s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = each.key == "risk" ? "Nothing is guarded but by the stops that rest at the venue. Look at the log of risk, and at the venue." : "Strategies see no new candles, and nothing is opened on old ones."
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "error_rate" {
  display_name          = "A function keeps failing"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "more than 5 answers of 5xx in five minutes"
    condition_threshold {
      filter          = "${local.run_requests} AND metric.labels.response_code_class=\"5xx\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.labels.service_name"]
      }
    }
  }

  documentation {
    content = "A message that keeps failing goes to its dead-letter topic in the end. The log has the reasons, one line each."
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "webhook_refusals" {
  display_name          = "Somebody knocks at the webhook with a wrong secret"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "more than 20 refusals in five minutes"
    condition_threshold {
      filter          = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.webhook_refused.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 20
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "Or the alerts in TradingView still carry the secret from before it was changed."
  }
}

# No metric tells when an agent key expires: the day is typed in, and the clock is compared with it. A real series
# (calls of risk, times nothing) stands in the query because one of constants alone selects nothing.
resource "google_monitoring_alert_policy" "agent_key_expiry" {
  count = var.agent_keys_expire_on == null ? 0 : 1

  display_name          = "An agent key expires within 14 days"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "14 days before ${var.agent_keys_expire_on}"
    condition_prometheus_query_language {
      query               = "(0 * sum(run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"risk\"}) + time()) > ${local.expiry_warned_at}"
      duration            = "0s"
      evaluation_interval = "3600s"
    }
  }

  documentation {
    content = "Entries are refused when a key expires before a trade's maximum holding time. Approve new agents at the venue, add the new versions, change agent_keys_expire_on: README.md, Changing a key."
  }

  depends_on = [google_project_service.needed]
}

resource "google_billing_budget" "month" {
  count = var.billing_account == null ? 0 : 1

  billing_account = var.billing_account
  display_name    = "twinleg ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.budget_monthly)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.person.id]
  }

  depends_on = [google_project_service.needed]
}
