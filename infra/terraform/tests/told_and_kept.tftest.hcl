# What a person is told and with which page, what is measured for it, and how the records are kept.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
}

variables {
  project            = "twinleg-paper"
  mode               = "paper"
  region             = "europe-west1"
  notification_email = "person@example.com"
  billing_account    = "0123AB-4567CD-89EF01"
  runbook_url        = "https://example.com/docs/runbook/"
  alert_limits       = { margin_ratio = 2.5 }
}

run "a_person_is_told_and_what_to_do" {
  command = plan

  variables {
    agent_keys_expire_on = "2027-05-01"
  }

  assert {
    condition = alltrue([for policy in concat(
      values(google_monitoring_alert_policy.alarm), values(google_monitoring_alert_policy.missed),
      google_monitoring_alert_policy.agent_key_expiry, google_monitoring_alert_policy.backup,
      [google_monitoring_alert_policy.dead_letters, google_monitoring_alert_policy.queue_stuck,
      google_monitoring_alert_policy.error_rate, google_monitoring_alert_policy.webhook_refusals],
      ) : startswith(policy.documentation[0].content, "docs/runbook/") &&
      startswith(policy.documentation[0].links[0].url, "https://example.com/docs/runbook/") &&
      length(policy.documentation[0].content) <= 8192 && length(policy.notification_channels) == 1 && policy.severity != null
    ])
    error_message = "every alarm must reach a person, carry its page (8,192 characters at most) and link it"
  }
  assert {
    condition     = alltrue([for name, policy in google_monitoring_alert_policy.alarm : policy.documentation[0].links[0].url == "https://example.com/docs/runbook/${name}.md"])
    error_message = "an alarm must link its own page"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.dead_letters.documentation[0].content, "twinleg-paper") && !strcontains(google_monitoring_alert_policy.dead_letters.documentation[0].content, "$PROJECT")
    error_message = "the commands of a page must name this project"
  }

  assert {
    condition = {
      for name, alarm in google_monitoring_alert_policy.alarm : name => [for c in alarm.conditions : c.condition_threshold[0].threshold_value]
      } == {
      needs-a-person = [0], unhedged = [0, 10], breaker = [0], margin = [0, 2.5], hedge-drift = [8], sweep-slow = [40], records = [0]
    }
    error_message = "an alarm must stand at the limit that was set, and at its default where none was"
  }
  assert {
    condition = alltrue([for c in google_monitoring_alert_policy.alarm["margin"].conditions :
      c.condition_threshold[0].comparison == (c.condition_threshold[0].threshold_value == 0 ? "COMPARISON_GT" : "COMPARISON_LT")
    ])
    error_message = "a margin ratio alarms below its limit"
  }
  assert {
    condition     = alltrue([for name, limit in local.limits : contains(google_logging_metric.figure[name].bucket_options[0].explicit_buckets[0].bounds, limit)])
    error_message = "a limit must be a bucket's edge, or the alarm is off by a bucket"
  }
  assert {
    condition = alltrue([for name, m in google_logging_metric.figure :
      endswith(m.filter, "jsonPayload.metric=\"${name}\"") && m.value_extractor == "EXTRACT(jsonPayload.value)" && m.metric_descriptor[0].value_type == "DISTRIBUTION" &&
      jsonencode(sort([for l in m.metric_descriptor[0].labels : l.key])) == jsonencode(keys(m.label_extractors))
    ])
    error_message = "a figure is a distribution of the values logged under its name, with a label for each it extracts"
  }
  assert {
    condition     = toset([for chart in local.figure_charts : chart.figure]) == toset(keys(local.figures))
    error_message = "every figure must have its chart"
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.twinleg.dashboard_json).mosaicLayout.tiles) == length(local.figures) + 6
    error_message = "every chart must be on the page"
  }
  assert {
    condition     = length(google_billing_budget.month) == 1 && google_billing_budget.month[0].amount[0].specified_amount[0].units == "50"
    error_message = "a month may cost what was set, and a person is told before"
  }
}

run "the_records_are_kept" {
  command = plan

  assert {
    condition     = google_firestore_database.records.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    error_message = "every version must be kept for seven days unless told otherwise"
  }
  assert {
    condition     = google_firestore_backup_schedule.daily[0].retention == "604800s" && google_firestore_backup_schedule.weekly[0].retention == "3024000s"
    error_message = "backups must be made daily, kept a week, and weekly, kept five"
  }
  assert {
    condition     = google_storage_bucket.export["export"].public_access_prevention == "enforced" && google_storage_bucket.export["export"].uniform_bucket_level_access
    error_message = "exports must never be public"
  }
  assert {
    condition     = [for rule in google_storage_bucket.export["export"].lifecycle_rule : one(rule.condition).age if one(rule.condition).age != null] == [30]
    error_message = "exports must be deleted after export_keep_days"
  }
  assert {
    condition     = jsondecode(base64decode(google_cloud_scheduler_job.export["export"].http_target[0].body)) == { outputUriPrefix = "gs://twinleg-paper-export" }
    error_message = "all records go to the bucket, each day into a folder that Firestore names"
  }
  assert {
    condition     = google_cloud_scheduler_job.export["export"].http_target[0].uri == "https://firestore.googleapis.com/v1/projects/twinleg-paper/databases/(default):exportDocuments"
    error_message = "Scheduler must call Firestore's export"
  }
  assert {
    condition     = google_project_iam_member.export["export"].role == "roles/datastore.importExportAdmin" && toset(keys(google_storage_bucket_iam_member.export)) == toset(["roles/storage.objectAdmin", "roles/storage.legacyBucketReader"])
    error_message = "the account that exports may export, and write to that bucket; nothing else"
  }
}

run "none_of_it_where_it_is_not_wanted" {
  command = plan

  variables {
    backup_keep_days       = 0
    backup_keep_weeks      = 0
    export_keep_days       = 0
    point_in_time_recovery = false
    billing_account        = null
    runbook_url            = null
  }

  assert {
    condition     = length(google_firestore_backup_schedule.daily) + length(google_firestore_backup_schedule.weekly) + length(google_storage_bucket.export) + length(google_service_account.export) + length(google_cloud_scheduler_job.export) + length(google_monitoring_alert_policy.backup) == 0
    error_message = "0 must make nothing"
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.alarm : length(policy.documentation[0].links) == 0])
    error_message = "without an address there is no link"
  }
}

run "what_makes_no_sense_is_refused" {
  command = plan
  variables {
    backup_keep_days     = 99
    backup_keep_weeks    = 15
    export_keep_days     = 1.5
    alert_limits         = { margin_ratio = 1, sweep_seconds = 60 }
    runbook_url          = "docs/runbook"
    billing_account      = "mine"
    budget_monthly       = 0
    notification_email   = "nobody"
    firestore_location   = "europe"
    agent_keys_expire_on = "next spring"
    config_file          = "no-such.toml"
    accounts             = ["Main", "hedge"]
    warm_instances       = { api = 1 }
  }
  expect_failures = [
    var.backup_keep_days, var.backup_keep_weeks, var.export_keep_days, var.alert_limits, var.runbook_url, var.billing_account,
    var.budget_monthly, var.notification_email, var.firestore_location, var.agent_keys_expire_on, var.config_file, var.accounts,
    var.warm_instances,
  ]
}
