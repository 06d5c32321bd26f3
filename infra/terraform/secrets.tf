# Secrets are made here without a value; a person adds the version, so that no key is in a state file (README.md).

locals {
  signer_roles = ["EXECUTE", "RISK", "EMERGENCY"]

  webhook_secret = "TWINLEG_WEBHOOK_SECRET"

  key_names = { for pair in setproduct(var.accounts, local.signer_roles) :
    "TWINLEG_${upper(pair[0])}_${pair[1]}_KEY" => { account = pair[0], role = pair[1] }
  }

  # function → the names of the secrets it is given and may read
  secrets_of = { for name, f in local.functions : name => concat(
    name == "webhook" ? [local.webhook_secret] : [],
    [for key, k in local.key_names : key if var.trading_keys && contains(f.keys, k.role)],
  ) }
}

resource "google_secret_manager_secret" "secret" {
  for_each = toset(concat([local.webhook_secret], keys(local.key_names)))

  secret_id           = each.value
  deletion_protection = var.deletion_protection

  # A version that was removed by mistake can be had back for a day.
  version_destroy_ttl = "86400s"

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = merge([
    for name, secrets in local.secrets_of : { for secret in secrets : "${name}/${secret}" => { name = name, secret = secret } }
  ]...)

  secret_id = google_secret_manager_secret.secret[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.value.name].member
}

# -- the configuration: no secret, kept here because a function can mount it as a file -------------------------------

resource "google_secret_manager_secret" "config" {
  secret_id = "twinleg-config"

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "config" {
  count = var.config_file == null ? 0 : 1

  secret                 = google_secret_manager_secret.config.id
  secret_data_wo         = local.config_text
  secret_data_wo_version = parseint(substr(sha256(local.config_text), 0, 8), 16)

  # Older revisions name older versions: they stay, so that going back works.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = !can(regex("0x[0-9a-fA-F]{64}", local.config_text))
      error_message = "The configuration holds what looks like a private key; it may only name secrets."
    }
    precondition {
      condition     = var.mode == "live" || !can(regex("(?m)^[^#]*network\\s*=\\s*[\"']mainnet[\"']", local.config_text))
      error_message = "The configuration trades on mainnet, which is real money: mode must be live."
    }
    precondition {
      condition = var.mode != "live" || alltrue([
        for name in concat([local.webhook_secret], keys(local.key_names)) : strcontains(local.config_text, name)
      ])
      error_message = "mode = live: the configuration must name ${local.webhook_secret} and the three keys of each of accounts; functions are given only those."
    }
  }
}

resource "google_secret_manager_secret_iam_member" "config" {
  for_each = local.functions

  secret_id = google_secret_manager_secret.config.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}
