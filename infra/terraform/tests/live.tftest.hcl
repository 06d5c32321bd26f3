# Real money: what has to be typed, and what comes with it.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
}

variables {
  project              = "twinleg-live"
  mode                 = "live"
  confirm_live         = "I know this trades real money"
  static_egress        = true
  agent_keys_expire_on = "2027-05-01"
  notification_email   = "person@example.com"
  image                = "europe-west1-docker.pkg.dev/twinleg-live/twinleg/twinleg@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  config_file          = "tests/live.toml"
}

run "live_runs_behind_one_address" {
  command = plan

  assert {
    condition     = { for name, f in module.function : name => f.settings.fixed_address } == { ingest = true, execute = true, risk = true, signal = false, webhook = false }
    error_message = "what calls the venue must leave by the fixed address, and nothing else needs to"
  }
  assert {
    condition     = google_compute_router_nat.egress[0].nat_ip_allocate_option == "MANUAL_ONLY" && length(google_compute_router_nat.egress[0].nat_ips) == 1
    error_message = "there must be one fixed address"
  }
  assert {
    condition     = google_firestore_database.records.delete_protection_state == "DELETE_PROTECTION_ENABLED" && alltrue([for s in google_secret_manager_secret.secret : s.deletion_protection])
    error_message = "records and keys must be protected from deletion"
  }
  assert {
    # 2027-05-01 is day 20,939 since 1970.
    condition     = local.expiry_warned_at == (20939 - 14) * 86400
    error_message = "the warning must come 14 days before the key expires"
  }
  assert {
    condition     = length(google_monitoring_alert_policy.agent_key_expiry) == 1
    error_message = "somebody must be told before a key expires"
  }
}

run "what_live_must_be_given" {
  command = plan
  variables {
    confirm_live         = "yes"
    static_egress        = false
    agent_keys_expire_on = null
    trading_keys         = false
    backup_keep_days     = 0
    config_file          = null
  }
  expect_failures = [var.confirm_live, var.static_egress, var.agent_keys_expire_on, var.trading_keys, var.backup_keep_days, var.config_file]
}

run "live_needs_keys_that_the_configuration_names" {
  command = plan
  variables {
    accounts = ["main", "hedge", "spare"]
  }
  expect_failures = [google_secret_manager_secret_version.config]
}

run "mainnet_is_not_play_money" {
  command = plan
  variables {
    mode = "paper"
  }
  expect_failures = [google_secret_manager_secret_version.config]
}

run "what_makes_no_sense_is_refused" {
  command = plan
  variables {
    mode           = "production"
    project        = "Twinleg"
    region         = "europe"
    image          = "europe-west1-docker.pkg.dev/twinleg-live/twinleg/twinleg:latest"
    accounts       = ["main"]
    warm_instances = { risk = 2 }
  }
  expect_failures = [var.mode, var.project, var.region, var.image, var.accounts, var.warm_instances]
}
