locals {
  charts = [
    { title = "Calls by function", filter = local.run_requests, aligner = "ALIGN_RATE", group = ["resource.label.service_name"] },
    { title = "Answers of 5xx", filter = "${local.run_requests} AND metric.label.response_code_class=\"5xx\"", aligner = "ALIGN_RATE", group = ["resource.label.service_name"] },
    { title = "Webhook's answers", filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.webhook_answers.name}\"", aligner = "ALIGN_RATE", group = ["metric.label.status", "metric.label.reason"] },
    { title = "Errors logged", filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.errors.name}\"", aligner = "ALIGN_RATE", group = ["metric.label.function"] },
    { title = "Oldest message that waits (s)", filter = local.oldest, aligner = "ALIGN_MAX", group = ["resource.label.subscription_id"] },
    { title = "Alarms and dead letters that nobody has read", filter = local.backlog, aligner = "ALIGN_MAX", group = ["resource.label.subscription_id"] },
  ]
}

resource "google_monitoring_dashboard" "twinleg" {
  dashboard_json = jsonencode({
    displayName = "twinleg"
    mosaicLayout = {
      columns = 12
      tiles = concat(
        [for i, chart in local.charts : {
          xPos = i % 2 * 6, yPos = floor(i / 2) * 4, width = 6, height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.aligner == "ALIGN_RATE" ? "REDUCE_SUM" : "REDUCE_MAX"
                      groupByFields      = chart.group
                    }
                  }
                }
              }]
            }
          }
        }],
        [{
          xPos = 0, yPos = 12, width = 12, height = 4
          widget = {
            title = "How long a call takes, 95th percentile (ms)"
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_latencies\""
                    aggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = "ALIGN_PERCENTILE_95"
                      crossSeriesReducer = "REDUCE_MAX"
                      groupByFields      = ["resource.label.service_name"]
                    }
                  }
                }
              }]
            }
          }
        }],
      )
    }
  })

  depends_on = [google_project_service.needed]
}
