output "webhook_url" {
  description = "What TradingView calls, followed by the webhook's secret: https://…/<secret>"
  value       = try("${module.function["webhook"].uri}/", null)
}

output "image_repository" {
  description = "Where the image is pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}/twinleg"
}

output "egress_address" {
  description = "The one address that calls the venue; null when it changes."
  value       = try(google_compute_address.egress[0].address, null)
}

output "secrets_to_fill" {
  description = "Each wants a version before functions are deployed: gcloud secrets versions add NAME --data-file=-"
  value       = sort(keys(google_secret_manager_secret.secret))
}

output "functions" {
  description = "The functions' addresses."
  value       = { for name, f in module.function : name => f.uri }
}

output "records" {
  description = "The records in the console: control/trading halts everything."
  value       = "https://console.cloud.google.com/firestore/databases/-default-/data/panel?project=${var.project}"
}
