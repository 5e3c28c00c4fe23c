package api

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// singleOwners drops owners that are there twice, and says so, with the words in
// which the answer tells when that was found.
func singleOwners(req *Request, obj kind.Object, when string) {
	var kept []metav1.OwnerReference
	var twice []string
	owners := obj.GetOwnerReferences()
next:
	for _, owner := range owners {
		for i := range kept {
			if equality.Semantic.DeepEqual(kept[i], owner) {
				twice = append(twice, string(owner.UID))
				continue next
			}
		}
		kept = append(kept, owner)
	}
	if len(twice) == 0 {
		return
	}
	obj.SetOwnerReferences(kept)
	req.warn([]string{fmt.Sprintf(".metadata.ownerReferences contains duplicate entries%s; API server dedups owner references in 1.20+, "+
		"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %s", when, strings.Join(twice, ", "))})
}
