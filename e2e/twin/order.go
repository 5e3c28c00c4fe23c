package main

import (
	"slices"
	"strings"
)

// tellingValues are the odd values, by what is odd about them, that most rules are
// about: those behind which the type is still the field's. The others are tried too,
// in their turn.
var tellingValues = []string{
	"empty", "zero", "negative", "one", "two", "101", "65536", "max int32", "true", "false",
	"upper case", "64 long", "254 long", "unknown", "name", "other name", "domain", "path", "digits", "IPv4", "IPv6", "CIDR",
	"long domain", "bad after domain", "space first", "fraction", "Ki", "milli", "half", "0%", "100%", "above 100%", "time", "bad key", "bad value", "long key", "prefixed key",
	"missing", "plausible", "duplicated", "reversed", "one more", "one less", "another member", "as another", "inside 1", "inside 2", "inside 3", "inside 4",
}

// telling says whether a mutation is one of those that rules are about, of a field
// that is not every kind's.
func (m *Mutation) telling() bool {
	known := slices.Contains(tellingValues, m.Rule) || slices.Contains(m.Field.tellingHere(), m.Rule) || strings.HasPrefix(m.Rule, "enum ") || strings.HasPrefix(m.Rule, "switches ")
	path := m.Field.Path
	setting := len(path) == 3 && path[1] == "annotations" && path[2] != "{}" // one that valid objects have says something
	return known && m.keepsType() && (path[0] != "metadata" || setting) && path[0] != "apiVersion" && path[0] != "kind"
}

// tellingHere are the odd values that rules are about where a field has such a name.
func (f Field) tellingHere() []string {
	name := strings.ToLower(f.name())
	switch {
	case name == "ip" || name == "ips" || strings.HasSuffix(name, "ip") || strings.HasSuffix(name, "ips") || strings.Contains(name, "address"):
		return []string{"loopback", "unspecified", "link-local", "multicast", "mapped", "old IPv4", "long IPv6"}
	case strings.HasSuffix(name, "path") || strings.HasSuffix(name, "profile"):
		return []string{"up", "up inside", "two dots"}
	case name == "key" || name == "prefix" || strings.Contains(pathString(f.Path), "env"):
		return []string{"equals", "two dots"}
	case name == "ipfamilies":
		return []string{"family IPv4", "family IPv6"}
	}
	return nil
}

// name is the last step of the path that is no list or map.
func (f Field) name() string {
	for _, step := range slices.Backward(f.Path) {
		if step != "[]" && step != "{}" {
			return step
		}
	}
	return ""
}

// keepsType says whether what is put is of the field's type: else nothing but that is
// told of the whole object.
func (m *Mutation) keepsType() bool {
	return m.value == nil && m.Rule != "null" || fits(m.Field.Class, m.value)
}

// ranked returns the mutations in an order that a seed gives: two telling ones, one
// of all others, and so on, since there are many more than there are requests.
func ranked(list []Mutation, seed uint64) []Mutation {
	list = shuffled(list, seed)
	var telling, others, order []Mutation
	for _, m := range list {
		if m.telling() {
			telling = append(telling, m)
		} else {
			others = append(others, m)
		}
	}
	for len(telling) > 0 && len(others) > 0 {
		n := min(2, len(telling))
		order = append(order, telling[:n]...)
		order = append(order, others[0])
		telling, others = telling[n:], others[1:]
	}
	return append(append(order, telling...), others...)
}

// company draws telling mutations to go with another one that keeps the type, more of
// its neighbours than of all: rules are told all at once, so that a request can be
// about several, and many rules are about two fields side by side.
func (sc *scenario) company(m Mutation) []Mutation {
	if !m.keepsType() || !sc.chance(65) {
		return nil
	}
	beside := sc.resource.telling[m.Field.beside()]
	var list []Mutation
	for range 3 + sc.random.IntN(6) {
		from := sc.resource.telling[""]
		if len(beside) > 0 && sc.chance(60) {
			from = beside
		}
		if len(from) == 0 {
			return nil
		}
		if other := one(sc, from...); !other.Field.within(m.Field) && !m.Field.within(other.Field) {
			list = append(list, other)
		}
	}
	return list
}

// tellingBy lists telling mutations by where their fields are, and all of them as "".
func tellingBy(list []Mutation) map[string][]Mutation {
	places := map[string][]Mutation{}
	for _, m := range list {
		if m.telling() {
			places[""] = append(places[""], m)
			places[m.Field.beside()] = append(places[m.Field.beside()], m)
		}
	}
	return places
}

// changeable are the fields of a kind that may change where most may not: rules of
// their own say how.
var changeable = map[string][]string{
	"pods": {
		"spec.activeDeadlineSeconds", "spec.tolerations", "spec.schedulingGates", "spec.terminationGracePeriodSeconds",
		"spec.containers[].image", "spec.initContainers[].image", "spec.nodeSelector", "spec.affinity.nodeAffinity",
	},
}

// changing are the telling mutations of a kind's changeable fields.
func changing(list []Mutation, resource string) []Mutation {
	var changing []Mutation
	for _, m := range list {
		if m.telling() && m.Field.inside(changeable[resource]) {
			changing = append(changing, m)
		}
	}
	return changing
}

// inside says whether a field is one of a list, or a part of one.
func (f Field) inside(paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		return strings.HasPrefix(f.String()+".", path+".") || strings.HasPrefix(f.String(), path+"[")
	})
}

// beside is the place that a field shares with others.
func (f Field) beside() string { return pathString(f.Path[:len(f.Path)-1]) + "." }

// within says whether a field is another one, or a part of it.
func (f Field) within(other Field) bool {
	return len(f.Path) >= len(other.Path) && slices.Equal(f.Path[:len(other.Path)], other.Path)
}
