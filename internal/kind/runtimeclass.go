package kind

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// RuntimeClass describes the kind of that name.
var RuntimeClass = &Kind{
	Resource:   schema.GroupVersionResource{Group: "node.k8s.io", Version: "v1", Resource: "runtimeclasses"},
	Kind:       "RuntimeClass",
	Singular:   "runtimeclass",
	Namespaced: false,
	New:        func() Object { return &nodev1.RuntimeClass{} },
	NewList:    func() runtime.Object { return &nodev1.RuntimeClassList{} },

	Validate: func(obj Object) field.ErrorList {
		return runtimeClassErrors(obj.(*nodev1.RuntimeClass), nil)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		c, was := obj.(*nodev1.RuntimeClass), old.(*nodev1.RuntimeClass)
		errs := append(runtimeClassErrors(c, was), plainMetaUpdateErrors(c, was)...)
		return append(errs, immutable(field.NewPath("handler"), c.Handler, was.Handler)...)
	},
	Warnings: func(obj, _ Object) []string { return runtimeClassWarnings(obj.(*nodev1.RuntimeClass)) },

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Handler", metav1.ObjectMeta{}.SwaggerDoc()["handler"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		c := obj.(*nodev1.RuntimeClass)
		return []any{c.Name, c.Handler, since(c.CreationTimestamp.Time, now)}
	},
}

func runtimeClassErrors(c, old *nodev1.RuntimeClass) field.ErrorList {
	var was Object
	if old != nil {
		was = old
	}
	errs := plainMetaErrors(c, was, apivalidation.NameIsDNSSubdomain)
	handler := field.NewPath("handler")
	if c.Handler == "" {
		errs = append(errs, field.Required(handler, ""))
	} else {
		errs = append(errs, dnsLabel(handler, c.Handler)...)
	}
	if c.Overhead != nil {
		r := &corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}
		errs = append(errs, validateResources(field.NewPath("overhead"), r, containerResourceName, nil)...)
	}
	if c.Scheduling != nil {
		errs = append(errs, validateScheduling(field.NewPath("scheduling"), c.Scheduling)...)
	}
	return errs
}

func validateScheduling(path *field.Path, s *nodev1.Scheduling) field.ErrorList {
	errs := metavalidation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))
	at := path.Child("tolerations")
	errs = append(errs, validateTolerations(at, s.Tolerations)...)
	seen := map[corev1.Toleration]bool{}
	for i, t := range s.Tolerations {
		key := t
		key.TolerationSeconds = nil
		if seen[key] {
			errs = append(errs, field.Duplicate(at.Index(i), untagged{t}))
		}
		seen[key] = true
	}
	return errs
}

func runtimeClassWarnings(c *nodev1.RuntimeClass) []string {
	if c.Scheduling == nil {
		return nil
	}
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(c.Scheduling.NodeSelector)) {
		if text, old := oldNodeLabel(key); old {
			warnings = append(warnings, field.NewPath("scheduling", "nodeSelector").String()+": "+text)
		}
	}
	return warnings
}
