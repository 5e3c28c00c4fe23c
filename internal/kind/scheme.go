package kind

import (
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// groups are the API groups whose types can appear in a request or an answer.
// Each also brings the meta types (ListOptions, DeleteOptions, WatchEvent …)
// into its own group-version.
var groups = runtime.NewSchemeBuilder(
	corev1.AddToScheme,
	appsv1.AddToScheme,
	authenticationv1.AddToScheme,
	authorizationv1.AddToScheme,
	autoscalingv1.AddToScheme,
	certificatesv1.AddToScheme,
	coordinationv1.AddToScheme,
	discoveryv1.AddToScheme,
	eventsv1.AddToScheme,
	nodev1.AddToScheme,
	policyv1.AddToScheme,
	schedulingv1.AddToScheme,
	metav1.AddMetaToScheme,
)

// scheme is built when first used: registering several hundred types costs
// time that a client of this package that only wants names need not pay.
var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := groups.AddToScheme(s); err != nil {
		panic(err) // two types claim one name: wrong in every process
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	metav1.AddToGroupVersion(s, metav1.SchemeGroupVersion)
	return s
})

// Scheme returns the types of every group that skiff serves, without defaults
// or conversions of their own. It is shared and must not be added to.
func Scheme() *runtime.Scheme { return scheme() }
