package api

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
)

// families fills a Service's address families and their policy from its
// addresses, the Service it replaces and what the cluster has (KEP-563).
func (a *API) families(svc, before *corev1.Service) error {
	if !needsAddress(svc) || prefersBothAsBefore(svc, before) {
		return nil
	}
	s := &svc.Spec
	alone := s.ClusterIP == corev1.ClusterIPNone && len(s.Selector) == 0
	if s.IPFamilyPolicy == nil {
		s.IPFamilyPolicy = defaultPolicy(before, alone)
	}
	if err := invalidService(svc, kind.ServiceAddressErrors(svc, before)); err != nil {
		return err
	}
	single := *s.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	errs := shrink(svc, before, single)
	errs = append(errs, a.inferFamilies(svc)...)
	if err := invalidService(svc, errs); err != nil {
		return err
	}
	if !alone {
		errs = a.checkFamilies(svc)
		if err := invalidService(svc, errs); err != nil {
			return err
		}
	}
	if len(s.IPFamilies) == 0 {
		if len(a.addresses) == 0 {
			return apierrors.NewInternalError(fmt.Errorf("service %s/%s: the cluster has no range of service addresses", svc.Namespace, svc.Name))
		}
		s.IPFamilies = []corev1.IPFamily{a.addresses[0].family}
	}
	// Nothing is allocated for a headless Service without selector: it may have
	// endpoints of a family that the cluster does not have.
	if !single && len(s.IPFamilies) == 1 && (alone || len(a.addresses) == 2) {
		s.IPFamilies = append(s.IPFamilies, otherFamily(s.IPFamilies[0]))
	}
	return nil
}

// prefersBothAsBefore: such a Service does not gain or lose an address because the
// cluster gained or lost a family meanwhile.
func prefersBothAsBefore(svc, before *corev1.Service) bool {
	prefers := func(s *corev1.Service) bool {
		return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	}
	return before != nil && svc.Spec.Type == before.Spec.Type &&
		(needsPorts(svc) || svc.Spec.Type == corev1.ServiceTypeClusterIP) &&
		prefers(svc) && (before.Spec.IPFamilyPolicy == nil || prefers(before)) &&
		slices.Equal(svc.Spec.ClusterIPs, before.Spec.ClusterIPs) && slices.Equal(svc.Spec.IPFamilies, before.Spec.IPFamilies)
}

func defaultPolicy(before *corev1.Service, alone bool) *corev1.IPFamilyPolicy {
	policy := corev1.IPFamilyPolicySingleStack
	switch {
	case before != nil && before.Spec.IPFamilyPolicy != nil:
		policy = *before.Spec.IPFamilyPolicy
	case alone:
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	return &policy
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// shrink lets a change to SingleStack drop the second address, and refuses a
// second one without a policy for it.
func shrink(svc, before *corev1.Service, single bool) field.ErrorList {
	s, path := &svc.Spec, field.NewPath("spec", "ipFamilyPolicy")
	var errs field.ErrorList
	if before != nil && single {
		if len(s.ClusterIPs) > 1 && slices.Equal(s.ClusterIPs, before.Spec.ClusterIPs) {
			s.ClusterIPs = s.ClusterIPs[:1]
		}
		if len(s.IPFamilies) > 1 && slices.Equal(s.IPFamilies, before.Spec.IPFamilies) {
			s.IPFamilies = s.IPFamilies[:1]
		}
	}
	if before != nil && !single {
		if len(s.ClusterIPs) > 0 && len(s.ClusterIPs) < len(before.Spec.ClusterIPs) {
			errs = append(errs, field.Invalid(path, s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
		}
		if len(s.IPFamilies) > 0 && len(s.IPFamilies) < len(before.Spec.IPFamilies) {
			errs = append(errs, field.Invalid(path, s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
		}
	}
	if single && len(s.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(path, s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(s.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(path, s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	return errs
}

// inferFamilies adds the families of addresses that were asked for.
func (a *API) inferFamilies(svc *corev1.Service) (errs field.ErrorList) {
	s := &svc.Spec
	for i, text := range s.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil || i < len(s.IPFamilies) { // "None", and what has been looked at
			continue
		}
		family := familyOf(ip)
		if a.addresses.of(family) == nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), s.ClusterIPs,
				fmt.Sprintf("%s is not configured on this cluster", family)))
			continue
		}
		s.IPFamilies = append(s.IPFamilies, family)
	}
	return errs
}

// checkFamilies refuses what the cluster does not have.
func (a *API) checkFamilies(svc *corev1.Service) (errs field.ErrorList) {
	s := &svc.Spec
	if *s.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(a.addresses) < 2 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), s.IPFamilyPolicy,
			"this cluster is not configured for dual-stack services"))
	}
	for i, family := range s.IPFamilies {
		if a.addresses.of(family) == nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	return errs
}

func invalidService(svc *corev1.Service, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(kind.Service.GVK().GroupKind(), svc.Name, errs)
}
