output "uri" {
  value = google_cloud_run_v2_service.this.uri
}

output "name" {
  value = google_cloud_run_v2_service.this.name
}

output "revision" {
  value = google_cloud_run_v2_service.this.latest_ready_revision
}

# What the tests of this folder look at: the service as it is planned.
output "settings" {
  value = {
    public           = google_cloud_run_v2_service.this.invoker_iam_disabled
    ingress          = google_cloud_run_v2_service.this.ingress
    invokers         = keys(google_cloud_run_v2_service_iam_member.invoker)
    invoker_members  = { for label, m in google_cloud_run_v2_service_iam_member.invoker : label => m.member }
    timeout_seconds  = tonumber(trimsuffix(google_cloud_run_v2_service.this.template[0].timeout, "s"))
    concurrency      = google_cloud_run_v2_service.this.template[0].max_instance_request_concurrency
    max_instances    = google_cloud_run_v2_service.this.template[0].scaling[0].max_instance_count
    min_instances    = google_cloud_run_v2_service.this.template[0].scaling[0].min_instance_count
    instances_in_all = google_cloud_run_v2_service.this.scaling[0].max_instance_count
    cpu_idle         = google_cloud_run_v2_service.this.template[0].containers[0].resources[0].cpu_idle
    image            = google_cloud_run_v2_service.this.template[0].containers[0].image
    fixed_address    = length(google_cloud_run_v2_service.this.template[0].vpc_access) == 1
    env              = { for e in google_cloud_run_v2_service.this.template[0].containers[0].env : e.name => e.value if length(e.value_source) == 0 }
    secrets          = [for e in google_cloud_run_v2_service.this.template[0].containers[0].env : e.name if length(e.value_source) == 1]
  }
}
