package kind

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// shownField is a field as an error shows it.
type shownField struct {
	name  string
	value reflect.Value
	// embedded fields are shown as if they were those of the structure around.
	embedded bool
}

// shownOrder are the structures whose fields upstream's validation sees in
// another order than clients do.
var shownOrder = map[reflect.Type][]string{
	reflect.TypeFor[corev1.PodSpec](): strings.Fields(`Volumes InitContainers Containers EphemeralContainers RestartPolicy
		TerminationGracePeriodSeconds ActiveDeadlineSeconds DNSPolicy NodeSelector ServiceAccountName
		AutomountServiceAccountToken NodeName SecurityContext ImagePullSecrets Hostname Subdomain SetHostnameAsFQDN
		Affinity SchedulerName Tolerations HostAliases PriorityClassName Priority PreemptionPolicy DNSConfig
		ReadinessGates RuntimeClassName Overhead EnableServiceLinks TopologySpreadConstraints OS SchedulingGates
		ResourceClaims Resources HostnameOverride SchedulingGroup`),
	reflect.TypeFor[corev1.PodSecurityContext](): strings.Fields(`SELinuxOptions WindowsOptions RunAsUser RunAsGroup
		RunAsNonRoot SupplementalGroups SupplementalGroupsPolicy FSGroup FSGroupChangePolicy Sysctls SeccompProfile
		AppArmorProfile SELinuxChangePolicy`),
	reflect.TypeFor[corev1.VolumeSource](): strings.Fields(`HostPath EmptyDir GCEPersistentDisk AWSElasticBlockStore
		GitRepo Secret NFS ISCSI Glusterfs PersistentVolumeClaim RBD Quobyte FlexVolume Cinder CephFS Flocker
		DownwardAPI FC AzureFile ConfigMap VsphereVolume AzureDisk PhotonPersistentDisk Projected PortworxVolume
		ScaleIO StorageOS CSI Ephemeral Image`),
}

// hostSecurity is a Pod's security context with what belongs to it besides for
// upstream's validation.
type hostSecurity struct {
	HostNetwork, HostPID, HostIPC    bool
	ShareProcessNamespace, HostUsers *bool
	corev1.PodSecurityContext
}

// shownFields returns what an error shows of a structure.
func shownFields(v reflect.Value) []shownField {
	t := v.Type()
	var fields []shownField
	if order, ok := shownOrder[t]; ok {
		for _, name := range order {
			fields = append(fields, shownField{name: name, value: v.FieldByName(name)})
		}
	} else {
		for i := range t.NumField() {
			f := t.Field(i)
			fields = append(fields, shownField{f.Name, v.Field(i), f.Anonymous && f.Type.Kind() == reflect.Struct})
		}
	}
	spec, ok := v.Interface().(corev1.PodSpec)
	if !ok || spec.SecurityContext == nil {
		return fields
	}
	for i := range fields {
		if fields[i].name == "SecurityContext" {
			fields[i].value = reflect.ValueOf(hostSecurity{
				spec.HostNetwork, spec.HostPID, spec.HostIPC, spec.ShareProcessNamespace, spec.HostUsers, *spec.SecurityContext,
			})
		}
	}
	return fields
}
