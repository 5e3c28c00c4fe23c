package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// projection collects what is wrong with a projected volume, and the paths
// that its sources have taken so far.
type projection struct {
	path  *field.Path // of the volume, where upstream tells collisions
	taken map[string]bool
	errs  field.ErrorList
}

// validateProjected checks sources that share one directory. ClusterTrustBundle
// and podCertificate never come here: PrepareCreate drops them, as upstream
// does while their features are off.
func validateProjected(path *field.Path, v *corev1.ProjectedVolumeSource) field.ErrorList {
	p := &projection{path: path, taken: map[string]bool{}}
	p.add(fileMode(path.Child("defaultMode"), v.DefaultMode))
	for i := range v.Sources {
		p.source(path.Child("sources").Index(i), &v.Sources[i])
	}
	return p.errs
}

func (p *projection) source(path *field.Path, s *corev1.VolumeProjection) {
	kinds := 0
	if s.Secret != nil {
		kinds++
		p.files(path.Child("secret"), s.Secret.Name, s.Secret.Items)
	}
	if s.ConfigMap != nil {
		kinds++
		p.files(path.Child("configMap"), s.ConfigMap.Name, s.ConfigMap.Items)
	}
	if s.DownwardAPI != nil {
		kinds++
		for i := range s.DownwardAPI.Items {
			file := &s.DownwardAPI.Items[i]
			p.add(validateDownwardFile(path.Child("downwardAPI"), file))
			p.take(file.Path, file.Path)
		}
	}
	if s.ServiceAccountToken != nil {
		kinds++
		p.token(path.Child("serviceAccountToken"), s.ServiceAccountToken)
	}
	if kinds > 1 {
		p.errs = append(p.errs, field.Forbidden(path, "may not specify more than 1 volume type per source"))
	}
}

func (p *projection) files(path *field.Path, name string, items []corev1.KeyToPath) {
	p.add(notEmpty(path.Child("name"), name))
	p.add(validateItems(path.Child("items"), items))
	for _, item := range items {
		p.take(item.Path, name)
	}
}

func (p *projection) token(path *field.Path, t *corev1.ServiceAccountTokenProjection) {
	var seconds int64
	if t.ExpirationSeconds != nil {
		seconds = *t.ExpirationSeconds
	}
	if seconds < 10*60 {
		p.errs = append(p.errs, field.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"))
	}
	if seconds > 1<<32 {
		p.errs = append(p.errs, field.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	at := p.path.Child("path")
	if t.Path == "" {
		p.errs = append(p.errs, field.Required(at, ""))
		return
	}
	p.add(fileName(at, t.Path))
}

// take notes a file; value is what the error about a second one shows.
func (p *projection) take(path, value string) {
	if path == "" {
		return
	}
	if p.taken[path] {
		p.errs = append(p.errs, field.Invalid(p.path, value, "conflicting duplicate paths"))
	}
	p.taken[path] = true
}

func (p *projection) add(errs field.ErrorList) { p.errs = append(p.errs, errs...) }
