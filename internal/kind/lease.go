package kind

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Lease describes the kind of that name.
var Lease = &Kind{
	Resource:   schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	Kind:       "Lease",
	Singular:   "lease",
	Namespaced: true,
	New:        func() Object { return &coordinationv1.Lease{} },
	NewList:    func() runtime.Object { return &coordinationv1.LeaseList{} },

	PrepareCreate: func(obj Object) { dropLeaseStrategy(obj.(*coordinationv1.Lease)) },
	PrepareUpdate: func(obj, _ Object) { dropLeaseStrategy(obj.(*coordinationv1.Lease)) },
	// Finalizers of a Lease may have any name.
	Validate: func(obj Object) field.ErrorList {
		errs := apivalidation.ValidateObjectMetaAccessor(obj, true, apivalidation.NameIsDNSSubdomain, metaPath())
		return append(errs, leaseErrors(obj.(*coordinationv1.Lease))...)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return append(plainMetaUpdateErrors(obj, old), leaseErrors(obj.(*coordinationv1.Lease))...)
	},
	Lazy: leaseOnlyRenewed,

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		l := obj.(*coordinationv1.Lease)
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, since(l.CreationTimestamp.Time, now)}
	},
}

// dropLeaseStrategy removes the fields of coordinated leader election, which
// upstream has switched off: there is no rule for them.
func dropLeaseStrategy(l *coordinationv1.Lease) {
	l.Spec.Strategy = nil
	l.Spec.PreferredHolder = nil
}

func leaseErrors(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	return errs
}

// leaseOnlyRenewed is the one change of a Lease that may be lost in a crash:
// whoever holds it renews it again. Who holds it must never be forgotten.
func leaseOnlyRenewed(obj, old Object) bool {
	if obj == nil || old == nil {
		return false
	}
	a, b := *obj.(*coordinationv1.Lease), *old.(*coordinationv1.Lease)
	a.Spec.RenewTime, b.Spec.RenewTime = nil, nil
	return sameMeta(&a.ObjectMeta, &b.ObjectMeta) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// sameMeta compares metadata except for what every write changes.
func sameMeta(a, b *metav1.ObjectMeta) bool {
	x, y := *a, *b
	x.ResourceVersion, y.ResourceVersion = "", ""
	x.ManagedFields, y.ManagedFields = nil, nil
	return equality.Semantic.DeepEqual(x, y)
}
