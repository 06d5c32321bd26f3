# The records, kept three ways (README.md, "Backup"): every version for seven days (firestore.tf), backups that Firestore
# makes by itself and that restore into a new database, and a daily export into a bucket, which can be imported anywhere.

resource "google_firestore_backup_schedule" "daily" {
  count = var.backup_keep_days == 0 ? 0 : 1

  database  = google_firestore_database.records.name
  retention = "${var.backup_keep_days * 86400}s"

  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  count = var.backup_keep_weeks == 0 ? 0 : 1

  database  = google_firestore_database.records.name
  retention = "${var.backup_keep_weeks * 604800}s"

  weekly_recurrence {
    day = "SUNDAY"
  }
}

# -- the export ------------------------------------------------------------------------------------------------------

locals {
  exported = var.export_keep_days == 0 ? [] : ["export"]
}

resource "google_storage_bucket" "export" {
  #checkov:skip=CKV_GCP_62:Who reads it is in the project's audit log; a second bucket of access logs would tell nothing more
  for_each = toset(local.exported)

  name     = "${var.project}-export"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  versioning {
    enabled = true
  }

  # Each export is a folder of its own. What was deleted, by this rule or by mistake, can be had back for a week.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age        = var.export_keep_days
      with_state = "LIVE"
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 7
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "export" {
  for_each = toset(local.exported)

  account_id   = "export"
  display_name = "Scheduler, exporting the records"

  depends_on = [google_project_service.needed]
}

# Google has no role that may export and not import, and none on one database: so this one is on the project. It cannot
# read or write a single record by itself.
resource "google_project_iam_member" "export" {
  for_each = toset(local.exported)

  project = var.project
  role    = "roles/datastore.importExportAdmin"
  member  = google_service_account.export[each.key].member
}

resource "google_storage_bucket_iam_member" "export" {
  for_each = merge([for export in local.exported : {
    for role in ["roles/storage.objectAdmin", "roles/storage.legacyBucketReader"] : role => export
  }]...)

  bucket = google_storage_bucket.export[each.value].name
  role   = each.key
  member = google_service_account.export[each.value].member
}

# Answered as soon as the export has begun; how it ended: gcloud firestore operations list.
resource "google_cloud_scheduler_job" "export" {
  for_each = toset(local.exported)

  name             = each.key
  region           = var.region
  schedule         = "17 3 * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "60s"

  retry_config {
    retry_count = 3
  }

  http_target {
    uri         = "https://firestore.googleapis.com/v1/projects/${var.project}/databases/${google_firestore_database.records.name}:exportDocuments"
    http_method = "POST"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ outputUriPrefix = "gs://${google_storage_bucket.export[each.key].name}" }))

    oauth_token {
      service_account_email = google_service_account.export[each.key].email
      scope                 = "https://www.googleapis.com/auth/datastore"
    }
  }

  depends_on = [google_project_iam_member.export, google_storage_bucket_iam_member.export]
}
