# The webhook's address ends in its secret, and the platform's request log keeps addresses. So those entries are not
# kept. What the function itself logs (the status and why) stays.
resource "google_logging_project_exclusion" "webhook_requests" {
  name        = "webhook-requests"
  description = "Their addresses carry the webhook's secret"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"webhook\" AND log_id(\"run.googleapis.com/requests\")"

  depends_on = [google_project_service.needed]
}

locals {
  from_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in keys(local.functions) : "\"${name}\""])})"
}

# -- counts ----------------------------------------------------------------------------------------------------------

resource "google_logging_metric" "webhook_answers" {
  name        = "twinleg/webhook_answers"
  description = "The webhook's answers by status and reason"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"webhook\" AND jsonPayload.status:* AND jsonPayload.reason:*"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key = "status"
    }
    labels {
      key = "reason"
    }
  }
  label_extractors = {
    status = "EXTRACT(jsonPayload.status)"
    reason = "EXTRACT(jsonPayload.reason)"
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_metric" "webhook_refused" {
  name        = "twinleg/webhook_refused"
  description = "Calls of the webhook without its secret"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"webhook\" AND jsonPayload.status=\"401\""

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_metric" "errors" {
  name        = "twinleg/errors"
  description = "Lines of severity ERROR and above, by function"
  filter      = "${local.from_functions} AND severity>=ERROR"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key = "function"
    }
  }
  label_extractors = {
    function = "EXTRACT(resource.labels.service_name)"
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_metric" "backup_failed" {
  name        = "twinleg/backup_failed"
  description = "Calls that should have started the day's export and did not"
  filter      = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=\"export\" AND severity>=ERROR"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.needed]
}

# -- figures: one log line each, with `metric` and `value` (docs/operations.md, Figures) ------------------------------

locals {
  # unit   of the value: s seconds, 1 a ratio, % per cent
  # about  what else stands on the line and is a label here. No trade's id: that would be a series per trade.
  figures = {
    handled_seconds             = { unit = "s", about = ["function", "status"], text = "How long a request took" }
    queue_seconds               = { unit = "s", about = ["function", "topic"], text = "How long a message waited" }
    candle_to_published_seconds = { unit = "s", about = [], text = "A candle's close to its publication" }
    candle_to_signal_seconds    = { unit = "s", about = [], text = "A candle fetched to every strategy's decision" }
    alert_to_intent_seconds     = { unit = "s", about = ["market"], text = "An alert received to its intent" }
    intent_to_filled_seconds    = { unit = "s", about = ["market"], text = "An intent to the main leg's fill" }
    intent_to_open_seconds      = { unit = "s", about = ["market"], text = "An intent to both legs filled and guarded" }
    unhedged_seconds            = { unit = "s", about = ["market", "ended"], text = "How long a main leg stood alone" }
    hedge_effectiveness         = { unit = "1", about = ["market"], text = "How much of the main leg's result its hedge cancelled out" }
    sweep_seconds               = { unit = "s", about = ["function"], text = "How long a sweep took" }
    margin_ratio                = { unit = "1", about = ["account"], text = "Account value per maintenance margin" }
    liquidation_error_percent   = { unit = "%", about = ["account"], text = "The venue's liquidation price off our own, worst position" }
    hedge_drift_percent         = { unit = "%", about = [], text = "How far the worst hedge is off the size wanted" }
  }

  # A log-based figure is kept in buckets, and an alarm reads the bucket: so a limit is always a bucket's edge.
  edges = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7.5, 10, 20, 50, 100]
  limits = {
    margin_ratio        = var.alert_limits.margin_ratio
    hedge_drift_percent = var.alert_limits.hedge_drift_percent
    unhedged_seconds    = var.alert_limits.unhedged_seconds
    sweep_seconds       = var.alert_limits.sweep_seconds
  }
  # It can be below nought (both legs lost) and is good near 1.
  effectiveness_edges = [-5, -2, -1, -0.5, -0.25, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 5]
}

resource "google_logging_metric" "figure" {
  for_each = local.figures

  name            = "twinleg/${each.key}"
  description     = each.value.text
  filter          = "${local.from_functions} AND jsonPayload.metric=\"${each.key}\""
  value_extractor = "EXTRACT(jsonPayload.value)"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit
    dynamic "labels" {
      for_each = toset(each.value.about)
      content {
        key = labels.value
      }
    }
  }
  label_extractors = { for label in each.value.about : label => "EXTRACT(jsonPayload.${label})" }

  bucket_options {
    dynamic "explicit_buckets" {
      for_each = contains(keys(local.limits), each.key) ? [[for edge in local.edges : edge * local.limits[each.key]]] : (
        each.key == "hedge_effectiveness" ? [local.effectiveness_edges] : []
      )
      content {
        bounds = explicit_buckets.value
      }
    }
    # 10 ms to about two hours, each a third wider than the one before.
    dynamic "exponential_buckets" {
      for_each = contains(keys(local.limits), each.key) || each.key == "hedge_effectiveness" ? [] : [1]
      content {
        scale              = 0.01
        growth_factor      = 1.33
        num_finite_buckets = 48
      }
    }
  }

  depends_on = [google_project_service.needed]
}
