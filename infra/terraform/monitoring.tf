# What a person is told, and what to do then: every alarm has its page in docs/runbook, and the mail carries that page.
#
# Three sources. The platform's own metrics. The figures that functions log (logging.tf). And events: those of an
# alarming kind are kept in a subscription of its own that nobody reads but a person; something in it is the alarm. That
# needs no log line and loses nothing. It falls silent when the person has read it, or after a day:
#   gcloud pubsub subscriptions pull alarm-unhedged --auto-ack --limit=100

locals {
  # kinds   events that raise it
  # figure  one that raises it above or below its limit (local.limits)
  alarms = {
    needs-a-person = {
      title    = "A trade or a position needs a person"
      severity = "CRITICAL"
      kinds    = ["needs_a_person", "orphan", "emergency"]
      figure   = null
    }
    unhedged = {
      title    = "A leg stood alone"
      severity = "CRITICAL"
      kinds    = ["unwound"]
      figure   = { name = "unhedged_seconds", side = "above", by = "market" }
    }
    breaker = {
      title    = "A breaker tripped or trading was halted"
      severity = "CRITICAL"
      kinds    = ["breaker", "halted"]
      figure   = null
    }
    margin = {
      title    = "A leg is nearing liquidation"
      severity = "CRITICAL"
      kinds    = ["warned", "margin_added", "cut", "protected"]
      figure   = { name = "margin_ratio", side = "below", by = "account" }
    }
    hedge-drift = {
      title    = "A hedge no longer fits its main leg"
      severity = "WARNING"
      kinds    = []
      figure   = { name = "hedge_drift_percent", side = "above", by = null }
    }
    sweep-slow = {
      title    = "The sweep is too slow"
      severity = "ERROR"
      kinds    = []
      figure   = { name = "sweep_seconds", side = "above", by = "function" }
    }
    records = {
      title    = "Records or prices drifted from the venue"
      severity = "WARNING"
      kinds    = ["corrected", "gap", "candle_suspect"]
      figure   = null
    }
  }

  # The pages, with this project's names in their commands.
  pages = { for file in fileset("${path.module}/../../docs/runbook", "*.md") : trimsuffix(file, ".md") => join("\n\n", [
    "docs/runbook/${file}",
    replace(replace(file("${path.module}/../../docs/runbook/${file}"), "$PROJECT", var.project), "$REGION", var.region),
  ]) }
  page_links = var.runbook_url == null ? {} : { for page in keys(local.pages) : page => "${trimsuffix(var.runbook_url, "/")}/${page}.md" }

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
  for_each = { for name, alarm in local.alarms : name => alarm if length(alarm.kinds) > 0 }

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
  for_each = local.alarms

  display_name          = each.value.title
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [google_monitoring_notification_channel.person.id]

  dynamic "conditions" {
    for_each = length(each.value.kinds) == 0 ? [] : [each.value.kinds]
    content {
      display_name = "events of the kinds ${join(", ", conditions.value)} that nobody has read"
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
  }

  dynamic "conditions" {
    for_each = each.value.figure == null ? [] : [each.value.figure]
    content {
      display_name = "${conditions.value.name} ${conditions.value.side} ${local.limits[conditions.value.name]}"
      condition_threshold {
        filter                  = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.figure[conditions.value.name].name}\""
        comparison              = conditions.value.side == "above" ? "COMPARISON_GT" : "COMPARISON_LT"
        threshold_value         = local.limits[conditions.value.name]
        duration                = "0s"
        evaluation_missing_data = "EVALUATION_MISSING_DATA_INACTIVE"
        aggregations {
          alignment_period     = "60s"
          per_series_aligner   = conditions.value.side == "above" ? "ALIGN_PERCENTILE_99" : "ALIGN_PERCENTILE_05"
          cross_series_reducer = conditions.value.side == "above" ? "REDUCE_MAX" : "REDUCE_MIN"
          group_by_fields      = [for label in compact([conditions.value.by]) : "metric.label.${label}"]
        }
      }
    }
  }

  # Ended half an hour after the last sign of it, whatever becomes of the figure.
  alert_strategy {
    auto_close = "1800s"
  }

  documentation {
    content   = local.pages[each.key]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links[each.key]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages["dead-letters"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["dead-letters"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages["queue-stuck"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["queue-stuck"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages[each.key == "risk" ? "sweep-missed" : "candles-missed"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links[each.key == "risk" ? "sweep-missed" : "candles-missed"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages["errors"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["errors"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages["webhook-refusals"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["webhook-refusals"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
  }
}

resource "google_monitoring_alert_policy" "backup" {
  count = var.export_keep_days == 0 ? 0 : 1

  display_name          = "The records were not exported"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = [google_monitoring_notification_channel.person.id]

  conditions {
    display_name = "the day's export could not be started"
    condition_threshold {
      filter                  = "resource.type=\"cloud_scheduler_job\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.backup_failed.name}\""
      comparison              = "COMPARISON_GT"
      threshold_value         = 0
      duration                = "0s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_INACTIVE"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    content   = local.pages["backup"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["backup"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
    content   = local.pages["key-expiry"]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [local.page_links["key-expiry"]]
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
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
