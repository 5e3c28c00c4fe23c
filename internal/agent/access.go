package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long an answer of the API server to who somebody is, and to what somebody may,
// holds: upstream's defaults.
const (
	identityTime = 2 * time.Minute
	allowedTime  = 5 * time.Minute
	deniedTime   = 30 * time.Second
	askTime      = 10 * time.Second
	mostAnswers  = 1000
)

// access says who may use the node API: the API server and administrators by their
// certificates, everybody else as the API server says of a certificate's subject or a
// bearer token.
type access struct {
	who     answers[*authnv1.UserInfo] // by token; nil: nobody
	allowed answers[bool]              // by all that was asked
}

// answers remembers what the API server said of a question for a while, by the
// question's digest.
type answers[T any] struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]answer[T]
}

type answer[T any] struct {
	value T
	until time.Time
}

func (s *answers[T]) known(question []byte) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[sha256.Sum256(question)]
	return a.value, ok && time.Now().Before(a.until)
}

func (s *answers[T]) note(question []byte, value T, keep time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= mostAnswers { // whoever asks much must not fill the memory
		s.all = map[[sha256.Size]byte]answer[T]{}
	}
	s.all[sha256.Sum256(question)] = answer[T]{value, time.Now().Add(keep)}
}

// letIn answers who may not, and says whether the caller may.
func (a *Agent) letIn(w http.ResponseWriter, r *http.Request) bool {
	user, trusted, err := a.caller(r)
	switch {
	case err != nil:
		a.refuse(w, "Unauthorized", http.StatusUnauthorized, err)
		return false
	case user == nil:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return false
	case trusted:
		return true
	}
	verb, resources := nodeVerb(r.Method), subresources(r.URL.Path)
	for _, resource := range resources {
		may, err := a.may(r.Context(), user, verb, resource)
		if err != nil {
			msg := fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", user.Username, verb, resources)
			a.refuse(w, msg, http.StatusInternalServerError, err)
			return false
		}
		if may {
			return true
		}
	}
	http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", user.Username, verb, resources), http.StatusForbidden)
	return false
}

func (a *Agent) refuse(w http.ResponseWriter, text string, status int, err error) {
	a.log.Debug(text, zap.Error(err))
	http.Error(w, text, status)
}

// caller says who it is, and whether that one may do all; nil is nobody.
func (a *Agent) caller(r *http.Request) (user *authnv1.UserInfo, trusted bool, err error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		cert := r.TLS.VerifiedChains[0][0]
		return &authnv1.UserInfo{Username: cert.Subject.CommonName, Groups: cert.Subject.Organization}, mayUse(cert), nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token = strings.TrimSpace(token); !ok || token == "" {
		return nil, false, nil
	}
	if user, ok := a.access.who.known([]byte(token)); ok {
		return user, false, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	review, err := a.Client.AuthenticationV1().TokenReviews().Create(ctx,
		&authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return nil, false, err
	}
	if review.Status.Authenticated {
		user = &review.Status.User
	}
	a.access.who.note([]byte(token), user, identityTime)
	return user, false, nil
}

// may asks the API server.
func (a *Agent) may(ctx context.Context, user *authnv1.UserInfo, verb, subresource string) (bool, error) {
	extra := map[string]authzv1.ExtraValue{}
	for name, values := range user.Extra {
		extra[name] = authzv1.ExtraValue(values)
	}
	spec := authzv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: extra,
		ResourceAttributes: &authzv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.NodeName},
	}
	question, err := json.Marshal(spec)
	if err != nil {
		return false, err
	}
	if may, ok := a.access.allowed.known(question); ok {
		return may, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	review, err := a.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authzv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	keep := deniedTime
	if review.Status.Allowed {
		keep = allowedTime
	}
	a.access.allowed.note(question, review.Status.Allowed, keep)
	return review.Status.Allowed, nil
}

func nodeVerb(method string) string {
	switch method {
	case http.MethodGet:
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// subresources are those of nodes that a path stands for, one of which is enough.
func subresources(path string) []string {
	below := func(root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
	switch {
	case below("/stats"):
		return []string{"stats"}
	case below("/metrics"):
		return []string{"metrics"}
	case below("/logs"):
		return []string{"log"}
	case below("/configz"):
		return []string{"configz", "proxy"}
	case below("/healthz"):
		return []string{"healthz", "proxy"}
	case slices.Contains([]string{"/pods", "/runningpods"}, strings.TrimSuffix(path, "/")):
		return []string{"pods", "proxy"}
	}
	return []string{"proxy"}
}
