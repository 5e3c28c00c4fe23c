package kind

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Secret describes the kind of that name.
var Secret = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "secrets"},
	Kind:       "Secret",
	Singular:   "secret",
	Namespaced: true,
	New:        func() Object { return &corev1.Secret{} },
	NewList:    func() runtime.Object { return &corev1.SecretList{} },

	Default:  func(obj Object) { defaultSecret(obj.(*corev1.Secret)) },
	Validate: func(obj Object) field.ErrorList { return secretErrors(obj.(*corev1.Secret), nil) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return secretUpdateErrors(obj.(*corev1.Secret), old.(*corev1.Secret))
	},
	Warnings: func(obj, _ Object) []string { return secretWarnings(obj.(*corev1.Secret)) },

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Type", corev1.Secret{}.SwaggerDoc()["type"]),
		column("Data", corev1.Secret{}.SwaggerDoc()["data"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		s := obj.(*corev1.Secret)
		return []any{s.Name, string(s.Type), int64(len(s.Data)), since(s.CreationTimestamp.Time, now)}
	},

	FieldNames: []string{"type"},
	Fields: func(obj Object) fields.Set {
		return fields.Set{"type": string(obj.(*corev1.Secret).Type)}
	},
}

// defaultSecret also folds stringData, which is write-only, into data.
func defaultSecret(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
	wholeBytes(s.Data)
}

// secretErrors checks a whole Secret. old may be nil.
func secretErrors(s *corev1.Secret, old Object) field.ErrorList {
	errs := newMetaErrors(s, old, apivalidation.NameIsDNSSubdomain)
	data := field.NewPath("data")
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(data.Key(key), key, msg))
		}
		size += len(s.Data[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	return append(errs, secretTypeErrors(s, data)...)
}

// secretTypeErrors checks that the keys which a well-known type promises are
// there.
func secretTypeErrors(s *corev1.Secret, data *field.Path) field.ErrorList {
	required := func(keys ...string) (errs field.ErrorList) {
		for _, key := range keys {
			if _, ok := s.Data[key]; !ok {
				errs = append(errs, field.Required(data.Key(key), ""))
			}
		}
		return errs
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			path := field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey)
			return field.ErrorList{field.Required(path, "")}
		}
	case corev1.SecretTypeDockercfg:
		return secretJSONErrors(s, data, corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		return secretJSONErrors(s, data, corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		// One of the two is enough.
		if errs := required(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey); len(errs) == 2 {
			return errs
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{field.Required(data.Key(corev1.SSHAuthPrivateKey), "")}
		}
	case corev1.SecretTypeTLS:
		return required(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return nil
}

func secretJSONErrors(s *corev1.Secret, data *field.Path, key string) field.ErrorList {
	value, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(data.Key(key), "")}
	}
	if err := json.Unmarshal(value, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(data.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}

func secretUpdateErrors(s, old *corev1.Secret) field.ErrorList {
	errs := append(metaUpdateErrors(s, old), immutable(field.NewPath("type"), s.Type, old.Type)...)
	if old.Immutable != nil && *old.Immutable {
		if s.Immutable == nil || !*s.Immutable {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), frozen))
		}
		if !equality.Semantic.DeepEqual(s.Data, old.Data) || emptied(s.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), frozen))
		}
	}
	return append(errs, secretErrors(s, old)...)
}

func secretWarnings(s *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}
