# Charts: what functions do, what they log (the figures of logging.tf), and what waits. One row of the table per chart.

locals {
  user_metric = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/"

  figure_charts = [
    { figure = "margin_ratio", low = true, title = "Account value per maintenance margin, lowest" },
    { figure = "liquidation_error_percent", low = false, title = "Liquidation price, the venue's off our own (% of the mark)" },
    { figure = "hedge_drift_percent", low = false, title = "Hedge off the size wanted, highest (%)" },
    { figure = "unhedged_seconds", low = false, title = "A leg stood alone (s)" },
    { figure = "hedge_effectiveness", low = true, title = "How much of the main leg's result the hedge cancelled out" },
    { figure = "sweep_seconds", low = false, title = "Sweep (s)" },
    { figure = "handled_seconds", low = false, title = "Requests (s)" },
    { figure = "queue_seconds", low = false, title = "Messages waited (s)" },
    { figure = "candle_to_published_seconds", low = false, title = "Candle closed to published (s)" },
    { figure = "candle_to_signal_seconds", low = false, title = "Candle fetched to signal (s)" },
    { figure = "alert_to_intent_seconds", low = false, title = "Alert to intent (s)" },
    { figure = "intent_to_filled_seconds", low = false, title = "Intent to main leg filled (s)" },
    { figure = "intent_to_open_seconds", low = false, title = "Intent to both legs guarded (s)" },
  ]

  charts = concat(
    [for chart in local.figure_charts : {
      title   = chart.title
      filter  = "${local.user_metric}${google_logging_metric.figure[chart.figure].name}\""
      aligner = chart.low ? "ALIGN_PERCENTILE_05" : "ALIGN_PERCENTILE_95"
      reducer = chart.low ? "REDUCE_MIN" : "REDUCE_MAX"
      group   = [for label in slice(local.figures[chart.figure].about, 0, min(1, length(local.figures[chart.figure].about))) : "metric.label.${label}"]
      limit   = lookup(local.limits, chart.figure, null)
    }],
    [
      { title = "Calls by function", filter = local.run_requests, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", group = ["resource.label.service_name"], limit = null },
      { title = "Answers of 5xx", filter = "${local.run_requests} AND metric.label.response_code_class=\"5xx\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", group = ["resource.label.service_name"], limit = null },
      { title = "Webhook's answers", filter = "${local.user_metric}${google_logging_metric.webhook_answers.name}\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", group = ["metric.label.status", "metric.label.reason"], limit = null },
      { title = "Errors logged", filter = "${local.user_metric}${google_logging_metric.errors.name}\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", group = ["metric.label.function"], limit = null },
      { title = "Oldest message that waits (s)", filter = local.oldest, aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", group = ["resource.label.subscription_id"], limit = null },
      { title = "Alarms and dead letters that nobody has read", filter = local.backlog, aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", group = ["resource.label.subscription_id"], limit = null },
    ],
  )
}

resource "google_monitoring_dashboard" "twinleg" {
  dashboard_json = jsonencode({
    displayName = "twinleg"
    mosaicLayout = {
      columns = 12
      tiles = [for i, chart in local.charts : {
        xPos = i % 2 * 6, yPos = floor(i / 2) * 4, width = 6, height = 4
        widget = {
          title = chart.title
          xyChart = {
            thresholds = chart.limit == null ? [] : [{ value = chart.limit }]
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = {
                    alignmentPeriod    = "60s"
                    perSeriesAligner   = chart.aligner
                    crossSeriesReducer = chart.reducer
                    groupByFields      = chart.group
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.needed]
}
