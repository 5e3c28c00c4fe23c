package api

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
)

// anonymous returns a client without credentials.
func (p *plane) anonymous() *restclient.Config {
	return &restclient.Config{Host: "https://" + p.address, TLSClientConfig: restclient.TLSClientConfig{CAData: p.ca.CertificatePEM()}}
}

// Who has no credentials learns health and version, nothing else; wrong
// credentials are worse than none.
func TestStrangers(t *testing.T) {
	p := start(t, nil)
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/version": 200,
		"/api": 403, "/api/v1/namespaces": 403, "/openapi/v3": 403, "/metrics": 403,
	} {
		code, body, _ := call(t, p.anonymous(), "GET", path, "", nil)
		if code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
		if code == 403 && !strings.Contains(decodeStatus(t, body).Message, `User "system:anonymous" cannot `) {
			t.Errorf("%s: %s", path, body)
		}
	}
	code, body, _ := call(t, p.anonymous(), "GET", "/healthz", "", map[string]string{"Authorization": "Bearer wrong.to.ken"})
	if s := decodeStatus(t, body); code != 401 || s.Reason != metav1.StatusReasonUnauthorized || s.Message != "Unauthorized" {
		t.Errorf("wrong token: %d %s", code, body)
	}
	someone := must(kubernetes.NewForConfig(p.as("someone", "people")))(t)
	_, err := someone.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	want := `pods is forbidden: User "someone" cannot list resource "pods" in API group "" in the namespace "default"`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("someone: %v", err)
	}
}

// A service account's token is issued, believed, reviewed, and verifiable with
// the published keys.
func TestTokens(t *testing.T) {
	p := start(t, nil)
	client := p.client()
	seconds := int64(600)
	issued := must(client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{}))(t)
	config := p.anonymous()
	config.BearerToken = issued.Status.Token
	account := must(kubernetes.NewForConfig(config))(t)
	self := must(account.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}))(t)
	if self.Status.UserInfo.Username != "system:serviceaccount:default:default" {
		t.Errorf("the token is of %+v", self.Status.UserInfo)
	}
	if _, err := account.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("secrets for an account without rights: %v", err)
	}
	review := must(client.AuthenticationV1().TokenReviews().Create(t.Context(),
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: issued.Status.Token}}, metav1.CreateOptions{}))(t)
	if !review.Status.Authenticated || review.Status.User.Username != self.Status.UserInfo.Username {
		t.Errorf("review: %+v", review.Status)
	}
	review = must(client.AuthenticationV1().TokenReviews().Create(t.Context(),
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: issued.Status.Token + "x"}}, metav1.CreateOptions{}))(t)
	if review.Status.Authenticated {
		t.Error("a changed token was believed")
	}
	for path, want := range map[string]string{"/openid/v1/jwks": `"keys":[{`, "/.well-known/openid-configuration": `"jwks_uri"`} {
		if code, body, _ := call(t, p.admin(), "GET", path, "", nil); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestAccessReviews(t *testing.T) {
	p := start(t, nil)
	reviews := p.client().AuthorizationV1()
	ask := &authorizationv1.ResourceAttributes{Namespace: "default", Verb: "get", Resource: "pods"}
	self := must(reviews.SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: ask}}, metav1.CreateOptions{}))(t)
	if !self.Status.Allowed {
		t.Errorf("admin: %+v", self.Status)
	}
	other := must(reviews.SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "someone", ResourceAttributes: ask}}, metav1.CreateOptions{}))(t)
	if other.Status.Allowed {
		t.Errorf("someone: %+v", other.Status)
	}
	_, err := reviews.SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: ask}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "at least one of user or group must be specified") {
		t.Errorf("about nobody: %v", err)
	}
	rules := must(reviews.SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}}, metav1.CreateOptions{}))(t)
	if len(rules.Status.ResourceRules) != 1 || rules.Status.ResourceRules[0].Verbs[0] != "*" {
		t.Errorf("admin's rules: %+v", rules.Status)
	}
}

// A certificate of another authority is no credential.
func TestStrangeCertificate(t *testing.T) {
	p, other := start(t, nil), start(t, nil)
	config := other.admin()
	pair := must(tls.X509KeyPair(config.CertData, config.KeyData))(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.ca.Pool(), Certificates: []tls.Certificate{pair}}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("https://" + p.address + "/api/v1/pods")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s", answer.Status)
	}
}

// Who may be somebody else is that one from then on, and nobody else may.
func TestImpersonation(t *testing.T) {
	p := start(t, nil)
	whoami := func(config *restclient.Config, as restclient.ImpersonationConfig) (authenticationv1.UserInfo, error) {
		config.Impersonate = as
		self, err := must(kubernetes.NewForConfig(config))(t).AuthenticationV1().SelfSubjectReviews().
			Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return authenticationv1.UserInfo{}, err
		}
		return self.Status.UserInfo, nil
	}
	got, err := whoami(p.admin(), restclient.ImpersonationConfig{UserName: "bob", UID: "7", Groups: []string{"crew"}, Extra: map[string][]string{"a/b": {"c"}}})
	if err != nil || got.Username != "bob" || got.UID != "7" || len(got.Groups) != 2 || got.Groups[0] != "crew" || got.Extra["a/b"][0] != "c" {
		t.Errorf("bob: %+v, %v", got, err)
	}
	got, err = whoami(p.admin(), restclient.ImpersonationConfig{UserName: "system:serviceaccount:ns:sa"})
	if want := "system:serviceaccounts system:serviceaccounts:ns system:authenticated"; err != nil || strings.Join(got.Groups, " ") != want {
		t.Errorf("service account: %+v, %v", got, err)
	}
	config := p.admin()
	config.Impersonate.UserName = "bob"
	if _, err := must(kubernetes.NewForConfig(config))(t).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("bob lists pods: %v", err)
	}
	_, err = whoami(p.as("someone"), restclient.ImpersonationConfig{UserName: "bob", Groups: []string{"system:masters"}})
	if want := `users "bob" is forbidden: User "someone" cannot impersonate resource "users" in API group "" at the cluster scope`; !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("someone as bob: %v", err)
	}
	code, body, _ := call(t, p.admin(), "GET", "/api/v1/pods", "", map[string]string{"Impersonate-Group": "system:masters"})
	if code != 400 || !strings.Contains(body, "without impersonating a user name") {
		t.Errorf("a group without a user: %d %s", code, body)
	}
}
