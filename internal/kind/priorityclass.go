package kind

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PriorityClass describes the kind of that name.
var PriorityClass = &Kind{
	Resource:   schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"},
	Kind:       "PriorityClass",
	Singular:   "priorityclass",
	ShortNames: []string{"pc"},
	Namespaced: false,
	New:        func() Object { return &schedulingv1.PriorityClass{} },
	NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },

	Default:       func(obj Object) { defaultPriorityClass(obj.(*schedulingv1.PriorityClass)) },
	PrepareCreate: func(obj Object) { obj.SetGeneration(1) },
	Validate: func(obj Object) field.ErrorList {
		return priorityClassErrors(obj.(*schedulingv1.PriorityClass))
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return priorityClassUpdateErrors(obj.(*schedulingv1.PriorityClass), old.(*schedulingv1.PriorityClass))
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		{Name: "Value", Type: "integer", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["value"]},
		{Name: "Global-Default", Type: "boolean", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]},
		ageColumn,
		column("PreemptionPolicy", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"]),
	},
	Row: func(obj Object, now time.Time) []any {
		c := obj.(*schedulingv1.PriorityClass)
		policy := ""
		if c.PreemptionPolicy != nil {
			policy = string(*c.PreemptionPolicy)
		}
		return []any{c.Name, int64(c.Value), c.GlobalDefault, since(c.CreationTimestamp.Time, now), policy}
	},
}

// The priorities that upstream reserves for the system.
const (
	highestUserPriority   = 1000000000
	systemPriorityPrefix  = "system-"
	systemClusterCritical = "system-cluster-critical"
	systemNodeCritical    = "system-node-critical"
)

// SystemPriorityClasses returns the two classes that exist in every cluster.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	preempt := corev1.PreemptLowerPriority
	return []*schedulingv1.PriorityClass{
		{
			ObjectMeta:       metav1.ObjectMeta{Name: systemNodeCritical},
			Value:            2*highestUserPriority + 1000,
			Description:      "Used for system critical pods that must not be moved from their current node.",
			PreemptionPolicy: &preempt,
		},
		{
			ObjectMeta:       metav1.ObjectMeta{Name: systemClusterCritical},
			Value:            2 * highestUserPriority,
			Description:      "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
			PreemptionPolicy: &preempt,
		},
	}
}

func defaultPriorityClass(c *schedulingv1.PriorityClass) {
	if c.PreemptionPolicy == nil {
		policy := corev1.PreemptLowerPriority
		c.PreemptionPolicy = &policy
	}
}

func priorityClassErrors(c *schedulingv1.PriorityClass) field.ErrorList {
	errs := newMetaErrors(c, nil, apivalidation.NameIsDNSSubdomain)
	if strings.HasPrefix(c.Name, systemPriorityPrefix) {
		if problem := systemClassProblem(c); problem != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPriorityPrefix+"' prefix are reserved for system use only. error: "+problem))
		}
	} else if c.Value > highestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUserPriority)))
	}
	if p := c.PreemptionPolicy; p != nil {
		errs = append(errs, requiredOneOf(field.NewPath("preemptionPolicy"), *p, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

func systemClassProblem(c *schedulingv1.PriorityClass) string {
	for _, system := range SystemPriorityClasses() {
		switch {
		case system.Name != c.Name:
		case system.Value != c.Value:
			return fmt.Sprintf("value of %v PriorityClass must be %v", system.Name, system.Value)
		case system.GlobalDefault != c.GlobalDefault:
			return fmt.Sprintf("globalDefault of %v PriorityClass must be %v", system.Name, system.GlobalDefault)
		default:
			return ""
		}
	}
	return fmt.Sprintf("%v is not a known system priority class", c.Name)
}

func priorityClassUpdateErrors(c, old *schedulingv1.PriorityClass) field.ErrorList {
	errs := metaUpdateErrors(c, old)
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, immutable(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, old.PreemptionPolicy)...)
}
