package state

// subscriptions are the watches of a ring, each under the narrowest of its
// interests, so that an event meets only those it may concern.
type subscriptions struct {
	everything  watchSet
	byNamespace map[string]watchSet
	byName      map[string]watchSet
	byNode      map[string]watchSet
}

type watchSet map[*Watch]struct{}

func newSubscriptions() subscriptions {
	return subscriptions{
		everything:  watchSet{},
		byNamespace: map[string]watchSet{},
		byName:      map[string]watchSet{},
		byNode:      map[string]watchSet{},
	}
}

// place returns the index and the key under which an interest is kept; a nil
// index is everything.
func (s *subscriptions) place(in Interest) (map[string]watchSet, string) {
	switch {
	case in.Name != "":
		return s.byName, in.Name
	case in.NodeName != "":
		return s.byNode, in.NodeName
	case in.Namespace != "":
		return s.byNamespace, in.Namespace
	}
	return nil, ""
}

func (s *subscriptions) add(w *Watch) {
	index, key := s.place(w.in)
	if index == nil {
		s.everything[w] = struct{}{}
		return
	}
	if index[key] == nil {
		index[key] = watchSet{}
	}
	index[key][w] = struct{}{}
}

func (s *subscriptions) remove(w *Watch) {
	index, key := s.place(w.in)
	if index == nil {
		delete(s.everything, w)
		return
	}
	delete(index[key], w)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// concerned calls fn for every watch that an event concerns.
func (s *subscriptions) concerned(h *happening, fn func(*Watch)) {
	offer := func(set watchSet) {
		for w := range set {
			if h.concerns(w.in) {
				fn(w)
			}
		}
	}
	offer(s.everything)
	offer(s.byNamespace[h.namespace])
	offer(s.byName[h.name])
	offer(s.byNode[h.node])
	if h.oldNode != h.node {
		offer(s.byNode[h.oldNode])
	}
}

// all calls fn for every watch.
func (s *subscriptions) all(fn func(*Watch)) {
	for w := range s.everything {
		fn(w)
	}
	for _, index := range []map[string]watchSet{s.byNamespace, s.byName, s.byNode} {
		for _, set := range index {
			for w := range set {
				fn(w)
			}
		}
	}
}
