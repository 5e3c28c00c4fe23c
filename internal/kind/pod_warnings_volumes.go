package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (w *warner) volumes(path *field.Path, volumes []corev1.Volume) {
	for i, v := range volumes {
		for _, old := range []struct {
			name string
			used bool
			text string
		}{
			{"photonPersistentDisk", v.PhotonPersistentDisk != nil, "deprecated in v1.11, non-functional in v1.16+"},
			{"gitRepo", v.GitRepo != nil, "deprecated in v1.11, and disabled by default in v1.33+"},
			{"scaleIO", v.ScaleIO != nil, "deprecated in v1.16, non-functional in v1.22+"},
			{"flocker", v.Flocker != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"storageOS", v.StorageOS != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"quobyte", v.Quobyte != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"glusterfs", v.Glusterfs != nil, "deprecated in v1.25, non-functional in v1.26+"},
			{"cephfs", v.CephFS != nil, "deprecated in v1.28, non-functional in v1.31+"},
			{"rbd", v.RBD != nil, "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.used {
				w.say(path.Index(i).Child(old.name), "%s", old.text)
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			at, r := path.Index(i).Child("ephemeral", "volumeClaimTemplate", "spec", "resources"), v.Ephemeral.VolumeClaimTemplate.Spec.Resources
			w.fractions(corev1.ResourceStorage, r.Requests, at, "requests")
			w.fractions(corev1.ResourceStorage, r.Limits, at, "limits")
		}
	}
}

// volumeFile is a file that a volume will have, and which of its sources it
// comes from, if there are several.
type volumeFile struct{ path, source string }

func (f volumeFile) String() string {
	if f.source != "" {
		return fmt.Sprintf("%q (%s)", f.path, f.source)
	}
	return fmt.Sprintf("%q", f.path)
}

// collides reports whether one of two files hides the other, or lies below it.
func (f volumeFile) collides(other volumeFile) bool {
	if f.path == "" || other.path == "" {
		return false
	}
	a, b := f.path+"/", other.path+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// overlaps warns of files within one volume that are in each other's way.
func (w *warner) overlaps(volumes []corev1.Volume) {
	for _, v := range volumes {
		switch {
		case v.ConfigMap != nil:
			w.collisions(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyFiles(v.ConfigMap.Items, ""))
		case v.Secret != nil:
			w.collisions(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keyFiles(v.Secret.Items, ""))
		case v.DownwardAPI != nil:
			w.collisions(v.Name, "DownwardAPI", downwardFiles(v.DownwardAPI.Items, ""))
		case v.Projected != nil:
			w.projected(v.Name, v.Projected.Sources)
		}
	}
}

func (w *warner) collisions(volume, kind string, files []volumeFile) {
	for i, file := range files {
		for _, other := range files[:i] {
			if file.collides(other) {
				w.texts = append(w.texts, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, kind, file, other))
			}
		}
	}
}

func (w *warner) projected(volume string, sources []corev1.VolumeProjection) {
	var files []volumeFile
	for _, s := range sources {
		if s == (corev1.VolumeProjection{}) {
			w.texts = append(w.texts, fmt.Sprintf("volume %q (Projected) has no sources provided", volume))
		}
		files = append(files, projectedFiles(s)...)
	}
	w.collisions(volume, "Projected", files)
}

func projectedFiles(s corev1.VolumeProjection) []volumeFile {
	switch {
	case s.ConfigMap != nil && s.ConfigMap.Items != nil:
		return keyFiles(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
	case s.Secret != nil && s.Secret.Items != nil:
		return keyFiles(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
	case s.DownwardAPI != nil && s.DownwardAPI.Items != nil:
		return downwardFiles(s.DownwardAPI.Items, "DownwardAPI")
	case s.ServiceAccountToken != nil:
		return []volumeFile{{strings.TrimRight(s.ServiceAccountToken.Path, "/"), "ServiceAccountToken"}}
	}
	return nil
}

func keyFiles(items []corev1.KeyToPath, source string) []volumeFile {
	var files []volumeFile
	for _, item := range items {
		files = append(files, volumeFile{strings.TrimRight(item.Path, "/"), source})
	}
	return files
}

func downwardFiles(items []corev1.DownwardAPIVolumeFile, source string) []volumeFile {
	var files []volumeFile
	for _, item := range items {
		files = append(files, volumeFile{strings.TrimRight(item.Path, "/"), source})
	}
	return files
}
