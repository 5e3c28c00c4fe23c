package api

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

// List is a page of objects as they were at one revision.
type List struct {
	Items    []kind.Object
	Revision store.Revision
	// Continue is the token of the next page, "" on the last one. Remaining is
	// how many objects are behind the page, nil where that would mean to look
	// at all of them.
	Continue  string
	Remaining *int64
}

// Get returns one object.
func (a *API) Get(_ context.Context, req Request) (kind.Object, error) {
	if req.Subresource != "" && req.Kind.Subresource(req.Subresource) == nil {
		return nil, notFound(&req)
	}
	obj, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
	if !ok {
		return nil, notFound(&req)
	}
	return obj, nil
}

// List returns objects in the order of their namespaces and names.
func (a *API) List(_ context.Context, req Request, options ListOptions) (*List, error) {
	s, err := a.selects(&req, &options, false)
	if err != nil {
		return nil, err
	}
	one := s.one(&options)
	snapshot, from, err := a.snapshot(req.Kind, &options, one)
	if err != nil {
		return nil, err
	}
	p := page{limit: options.Limit, after: from.after(), more: a.more(&req, s, &options)}
	if options.ResourceVersion == "0" && cached(req.Kind) { // upstream's cache gives all it has
		p.limit = 0
	}
	if one {
		p.more = nil
	}
	list := p.collect(snapshot, s, from.Revision)
	if list.Continue != "" {
		a.state.Retain(snapshot)
	}
	return list, nil
}

// snapshot returns the objects at the revision that the options ask for, that
// revision, and the key to go on behind.
func (a *API) snapshot(k *kind.Kind, options *ListOptions, one bool) (*state.Snapshot, continuation, error) {
	var from continuation
	if options.Continue != "" {
		from, err := parseContinue(options.Continue)
		if err != nil {
			return nil, from, err
		}
		if options.ResourceVersion != "" && options.ResourceVersion != "0" {
			return nil, from, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		if from.Revision == inconsistent {
			snapshot := a.state.Snapshot(k)
			from.Revision = snapshot.Revision()
			return snapshot, from, nil
		}
		if err := a.notBefore(cached(k), from.Revision); err != nil {
			return nil, from, err
		}
		snapshot, ok := a.state.SnapshotAt(k, from.Revision)
		if !ok {
			return nil, from, expiredContinue(from)
		}
		return snapshot, from, nil
	}
	rev, err := parseRevision(options.ResourceVersion)
	if err != nil {
		return nil, from, badRevision(err)
	}
	exact := options.ResourceVersionMatch == metav1.ResourceVersionMatchExact
	inPages := options.ResourceVersionMatch == "" && options.Limit > 0 && rev > 0
	if err := a.notBefore(cached(k) && !(one && (exact || inPages)), rev); err != nil {
		return nil, from, err
	}
	if !exact && (one || !inPages) {
		snapshot := a.state.Snapshot(k)
		from.Revision = snapshot.Revision()
		return snapshot, from, nil
	}
	snapshot, ok := a.state.SnapshotAt(k, rev)
	if !ok {
		return nil, from, apierrors.NewResourceExpired(textExpired)
	}
	from.Revision = rev
	return snapshot, from, nil
}

// page is what a list is to hold.
type page struct {
	limit int64  // 0: all
	after string // the key that it begins behind
	// more reports whether there is a next page behind a key; nil: there is none.
	more func(snapshot *state.Snapshot, after string) bool
}

// more returns what tells whether a full page has a next one. As with upstream, it has
// if there is any object that was still to be looked at, selected or not.
func (a *API) more(req *Request, s *selected, options *ListOptions) func(*state.Snapshot, string) bool {
	in := state.Interest{Namespace: req.namespace()}
	onNode := func(kind.Object) bool { return true }
	if options.Continue == "" {
		in.Namespace = s.in.Namespace
		latest := options.ResourceVersion == "" || options.ResourceVersionMatch == metav1.ResourceVersionMatchNotOlderThan
		if node, ok := s.fields.RequiresExactMatch(fieldNodeName); ok && latest && s.kind == kind.Pod {
			in.NodeName = node // by which upstream has an index
			onNode = func(obj kind.Object) bool { return obj.(*corev1.Pod).Spec.NodeName == node }
		}
	}
	return func(snapshot *state.Snapshot, after string) (found bool) {
		snapshot.Ascend(in, after, func(obj kind.Object) bool {
			found = onNode(obj)
			return !found
		})
		return found
	}
}

// collect takes a page out of a snapshot.
func (p page) collect(snapshot *state.Snapshot, s *selected, rev store.Revision) *List {
	list := &List{Revision: rev, Items: []kind.Object{}}
	if s.everything() && p.limit == 0 && s.in == (state.Interest{}) {
		list.Items = make([]kind.Object, 0, snapshot.Len())
	}
	var behind int64
	count := s.everything()
	snapshot.Ascend(s.in, p.after, func(obj kind.Object) bool {
		if p.limit > 0 && int64(len(list.Items)) == p.limit {
			behind++
			return count
		}
		if s.matches(obj) {
			list.Items = append(list.Items, obj)
		}
		return true
	})
	if p.limit == 0 || int64(len(list.Items)) < p.limit || p.more == nil {
		return list
	}
	last := listKey(list.Items[len(list.Items)-1])
	if count && behind == 0 || !count && !p.more(snapshot, last) {
		return list
	}
	// The snapshot's own revision is the one that is kept.
	list.Continue = continuation{Revision: snapshot.Revision(), Start: last + "\x00"}.token()
	if count {
		list.Remaining = &behind
	}
	return list
}

// validateOptions says what upstream says about options that do not fit
// together.
func validateOptions(o *ListOptions, watch bool) error {
	var errs field.ErrorList
	match := field.NewPath("resourceVersionMatch")
	switch {
	case watch:
		errs = validateWatchOptions(o, match)
	default:
		if m := o.ResourceVersionMatch; m != "" {
			if o.ResourceVersion == "" {
				errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
			}
			if o.Continue != "" {
				errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden when continue is provided"))
			}
			if m != metav1.ResourceVersionMatchExact && m != metav1.ResourceVersionMatchNotOlderThan {
				errs = append(errs, field.NotSupported(match, m, []string{
					string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), "",
				}))
			}
			if m == metav1.ResourceVersionMatchExact && o.ResourceVersion == "0" {
				errs = append(errs, field.Forbidden(match, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
			}
		}
		if o.SendInitialEvents != nil {
			errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
}

func validateWatchOptions(o *ListOptions, match *field.Path) field.ErrorList {
	var errs field.ErrorList
	m := o.ResourceVersionMatch
	if o.SendInitialEvents != nil && m != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.Forbidden(match, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	}
	if m == "" {
		return errs
	}
	if o.SendInitialEvents == nil {
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	}
	if m != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.NotSupported(match, m, []string{string(metav1.ResourceVersionMatchNotOlderThan)}))
	}
	if o.Continue != "" {
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden when continue is provided"))
	}
	return errs
}
