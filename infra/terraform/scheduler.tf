# A missed minute is harmless, because both functions work from what is recorded; so a failed call is not repeated
# within its minute. The deadline is above the function's own timeout: its answer is heard.
resource "google_cloud_scheduler_job" "minute" {
  for_each = { for name, f in local.deployed : name => f if f.trigger == "schedule" }

  name             = each.key
  region           = var.region
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.timeout_seconds + 3}s"
  paused           = var.paused

  retry_config {
    retry_count = 0
  }

  http_target {
    uri         = "${module.function[each.key].uri}/"
    http_method = "POST"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode("{}")

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = module.function[each.key].uri
    }
  }
}
