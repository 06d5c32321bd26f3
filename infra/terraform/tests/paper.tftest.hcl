# What is planned for play money: who may do what, by when, and how often at once.

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
  image              = "europe-west1-docker.pkg.dev/twinleg-paper/twinleg/twinleg@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  config_file        = "../../twinleg.toml"
}

run "an_empty_project_first_gets_everything_but_functions" {
  command = plan

  variables {
    image       = null
    config_file = null
  }

  assert {
    condition     = length(module.function) == 0 && length(google_cloud_scheduler_job.minute) == 0 && length(google_pubsub_subscription.push) == 0
    error_message = "without an image there must be no function, and nothing that calls one"
  }
  assert {
    condition     = length(google_secret_manager_secret.secret) == 7 && length(google_pubsub_topic.topic) == 5 && length(google_pubsub_topic.dead) == 6
    error_message = "secrets, topics and records must be there before the functions"
  }
}

run "the_five_functions" {
  command = apply

  assert {
    condition     = toset(keys(module.function)) == toset(["ingest", "signal", "execute", "risk", "webhook"])
    error_message = "there must be a service per function"
  }
  assert {
    condition = alltrue([for name, f in module.function :
      f.settings.env["FUNCTION_TARGET"] == name && f.settings.env["FUNCTION_SOURCE"] == "/app/functions/${name}/main.py"
    ])
    error_message = "every service must be told which function it is"
  }
  assert {
    condition = alltrue([for f in values(module.function) :
      f.settings.env["TWINLEG_RUNTIME"] == "cloud" && f.settings.env["GOOGLE_CLOUD_PROJECT"] == "twinleg-paper" && f.settings.env["TWINLEG_CONFIG"] == "/etc/twinleg/twinleg.toml"
    ])
    error_message = "every service must be told that it runs in the cloud, in which project, and where its configuration is"
  }
  assert {
    condition     = length(distinct([for f in values(module.function) : f.settings.image])) == 1
    error_message = "all functions must run the one image that was tested"
  }
  assert {
    condition     = alltrue([for f in values(module.function) : f.settings.cpu_idle])
    error_message = "cpu_idle must be written out as true, or every instance is billed all day"
  }
  assert {
    condition     = alltrue([for f in values(module.function) : f.settings.env["THREADS"] == tostring(f.settings.concurrency)])
    error_message = "a function must have as many threads as requests at once"
  }

  # -- who may call ---------------------------------------------------------------------------------------------------

  assert {
    condition     = jsonencode([for name, f in module.function : name if f.settings.public]) == jsonencode(["webhook"])
    error_message = "the webhook must be the only function anybody may call"
  }
  assert {
    condition     = alltrue([for name, f in module.function : (f.settings.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY") == (name != "webhook")])
    error_message = "what is not the webhook must be reached from inside the project only"
  }
  assert {
    condition     = jsonencode({ for name, f in module.function : name => f.settings.invokers }) == jsonencode({ ingest = ["scheduler"], risk = ["scheduler"], signal = ["push"], execute = ["push"], webhook = [] })
    error_message = "Scheduler calls ingest and risk, Pub/Sub signal and execute, and nobody else is given any of them"
  }
  assert {
    condition = alltrue(flatten([for name, f in module.function : [for label, member in f.settings.invoker_members :
      member == { scheduler = google_service_account.scheduler.member, push = google_service_account.push.member }[label]
    ]]))
    error_message = "a function may be called by the account its row names, and by no other member"
  }

  # -- who may read which key -----------------------------------------------------------------------------------------

  assert {
    condition = jsonencode({ for name, secrets in local.secrets_of : name => sort(secrets) }) == jsonencode({
      ingest  = []
      signal  = []
      webhook = ["TWINLEG_WEBHOOK_SECRET"]
      execute = ["TWINLEG_HEDGE_EXECUTE_KEY", "TWINLEG_MAIN_EXECUTE_KEY"]
      risk    = ["TWINLEG_HEDGE_EMERGENCY_KEY", "TWINLEG_HEDGE_RISK_KEY", "TWINLEG_MAIN_EMERGENCY_KEY", "TWINLEG_MAIN_RISK_KEY"]
    })
    error_message = "only execute and risk may read trading keys, each its own, and the webhook only its secret"
  }
  assert {
    condition = toset(keys(google_secret_manager_secret_iam_member.reader)) == toset(flatten([
      for name, f in module.function : [for secret in f.settings.secrets : "${name}/${secret}"]
    ]))
    error_message = "a function must be able to read exactly the secrets it is given"
  }
  assert {
    condition     = alltrue([for key, m in google_secret_manager_secret_iam_member.reader : m.secret_id == split("/", key)[1] && m.role == "roles/secretmanager.secretAccessor"])
    error_message = "reading must be granted on the very secret"
  }

  # -- who may write where --------------------------------------------------------------------------------------------

  assert {
    condition     = toset(keys(google_project_iam_member.datastore)) == toset(["ingest", "signal", "execute", "risk"])
    error_message = "the webhook must have no access to the records"
  }
  assert {
    condition     = alltrue([for m in google_project_iam_member.datastore : m.role == "roles/datastore.user"])
    error_message = "no role but datastore.user may be given on the project"
  }
  assert {
    condition     = jsonencode([for key in keys(google_pubsub_topic_iam_member.publisher) : key if startswith(key, "webhook/")]) == jsonencode(["webhook/alerts"])
    error_message = "the webhook must publish to alerts and nowhere else"
  }
  assert {
    condition     = jsonencode([for key in keys(google_pubsub_topic_iam_member.publisher) : key if endswith(key, "/intents")]) == jsonencode(["signal/intents"])
    error_message = "only signal may publish intents"
  }
  assert {
    condition     = alltrue([for topic in keys(local.topics) : contains(keys(google_pubsub_topic_iam_member.agent), "${topic}-dead")])
    error_message = "Pub/Sub itself must be able to publish to every dead-letter topic"
  }
  assert {
    condition     = toset(keys(google_pubsub_subscription_iam_member.agent)) == toset(keys(google_pubsub_subscription.push))
    error_message = "Pub/Sub itself must be able to take a dead letter from every subscription"
  }

  # -- queues ---------------------------------------------------------------------------------------------------------

  assert {
    condition     = { for topic, s in google_pubsub_subscription.push : topic => s.name } == { candles = "signal-candles", alerts = "signal-alerts", intents = "execute-intents", closes = "execute-closes" }
    error_message = "candles and alerts go to signal, intents and closes to execute"
  }
  assert {
    condition     = alltrue([for topic, s in google_pubsub_subscription.push : endswith(s.push_config[0].push_endpoint, "/topics/${topic}")])
    error_message = "the address must end in topics/<topic>, from which the function tells the topic"
  }
  assert {
    condition     = alltrue([for topic, s in google_pubsub_subscription.push : s.push_config[0].oidc_token[0].audience == module.function[local.pushed[topic]].uri])
    error_message = "a push must carry a token that is meant for the function it goes to"
  }
  assert {
    condition     = { for topic, s in google_pubsub_subscription.push : topic => s.enable_message_ordering } == { candles = true, alerts = true, intents = true, closes = false }
    error_message = "candles, alerts and intents are ordered by key; a close waits for nothing"
  }
  assert {
    condition     = alltrue([for topic, s in google_pubsub_subscription.push : s.ack_deadline_seconds > module.function[local.pushed[topic]].settings.timeout_seconds && s.ack_deadline_seconds <= 600])
    error_message = "a function must end before its message is delivered again"
  }
  assert {
    condition     = alltrue([for s in concat(values(google_pubsub_subscription.push), values(google_pubsub_subscription.dead), values(google_pubsub_subscription.alarm), [google_pubsub_subscription.events]) : s.expiration_policy[0].ttl == ""])
    error_message = "no subscription may expire for want of use"
  }
  assert {
    condition     = alltrue([for s in values(google_pubsub_subscription.push) : s.dead_letter_policy[0].max_delivery_attempts >= 5 && s.dead_letter_policy[0].max_delivery_attempts <= 100])
    error_message = "what keeps failing must go to its dead letters, after 5 to 100 attempts"
  }
  assert {
    condition     = toset(keys(google_pubsub_subscription.dead)) == toset(["candles-dead", "alerts-dead", "intents-dead", "closes-dead", "events-dead", "unknown-dead"])
    error_message = "every dead-letter topic must have a subscription that keeps what is published to it"
  }

  # -- each minute ----------------------------------------------------------------------------------------------------

  assert {
    condition     = module.function["risk"].settings.max_instances == 1 && module.function["risk"].settings.concurrency == 1 && module.function["risk"].settings.instances_in_all == 1
    error_message = "a sweep must never overlap itself: one instance over all revisions, one request at a time"
  }
  assert {
    condition     = alltrue([for name in ["ingest", "risk"] : module.function[name].settings.timeout_seconds < 60])
    error_message = "what runs each minute must end within it"
  }
  assert {
    condition     = alltrue([for name, job in google_cloud_scheduler_job.minute : tonumber(trimsuffix(job.attempt_deadline, "s")) > module.function[name].settings.timeout_seconds && job.schedule == "* * * * *" && job.paused == false])
    error_message = "Scheduler must call each minute and wait for the answer"
  }
  assert {
    condition     = alltrue([for name, job in google_cloud_scheduler_job.minute : job.http_target[0].oidc_token[0].audience == module.function[name].uri])
    error_message = "Scheduler's token must be meant for the function it calls"
  }

  # -- a person is told -----------------------------------------------------------------------------------------------

  assert {
    condition     = toset(keys(google_monitoring_alert_policy.alarm)) == toset(["needs-a-person", "unhedged", "breaker", "margin", "hedge-drift", "sweep-slow", "records"]) && alltrue([for p in google_monitoring_alert_policy.alarm : length(p.notification_channels) == 1])
    error_message = "what needs a person must reach one"
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.alarm : length(s.filter) <= 256 && s.topic == "events"])
    error_message = "a filter may hold 256 characters at most"
  }
  assert {
    condition     = toset(keys(google_monitoring_alert_policy.missed)) == toset(["ingest", "risk"]) && alltrue([for p in google_monitoring_alert_policy.missed : p.enabled])
    error_message = "a sweep that does not come must be noticed"
  }

  # -- the rest -------------------------------------------------------------------------------------------------------

  assert {
    condition     = strcontains(google_logging_project_exclusion.webhook_requests.filter, "run.googleapis.com/requests") && strcontains(google_logging_project_exclusion.webhook_requests.filter, "\"webhook\"")
    error_message = "the platform must not keep the webhook's addresses, which end in its secret"
  }
  assert {
    condition     = !strcontains(google_firebaserules_ruleset.deny.source[0].files[0].content, "if true") && strcontains(google_firebaserules_ruleset.deny.source[0].files[0].content, "allow read, write: if false")
    error_message = "clients must be refused everything"
  }
  assert {
    condition     = length(google_compute_router_nat.egress) == 0 && !anytrue([for f in values(module.function) : f.settings.fixed_address])
    error_message = "play money does not pay for a fixed address"
  }
  assert {
    condition     = endswith(output.webhook_url, "/")
    error_message = "the webhook's address must be told"
  }
}

run "what_runs_can_be_paused" {
  command = plan

  variables {
    paused = true
  }

  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.minute : job.paused])
    error_message = "paused must pause both schedules"
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.missed : !policy.enabled])
    error_message = "what is paused on purpose is not missed"
  }
}
