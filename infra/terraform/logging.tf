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

resource "google_logging_metric" "webhook_answers" {
  name        = "twinleg/webhook_answers"
  description = "The webhook's answers by status and reason"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"webhook\" AND jsonPayload.message=~\"^webhook [0-9]+ \""

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
    status = "REGEXP_EXTRACT(jsonPayload.message, \"^webhook ([0-9]+) \")"
    reason = "REGEXP_EXTRACT(jsonPayload.message, \"^webhook [0-9]+ ([a-z_]+)\")"
  }

  depends_on = [google_project_service.needed]
}

# Told apart from the answers above because it works for plain lines too.
resource "google_logging_metric" "webhook_refused" {
  name        = "twinleg/webhook_refused"
  description = "Calls of the webhook without its secret"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"webhook\" AND \"webhook 401\""

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
