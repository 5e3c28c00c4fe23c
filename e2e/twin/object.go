package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// correspondence is which values of upstream stand for which of skiff: identities
// and addresses that each server chooses. It is one to one.
type correspondence struct {
	toSkiff, toUpstream map[string]string
	generated           *regexp.Regexp // a name that a server has completed; nil: there is none
}

// generates notes what names are completed of in the answers to a request.
func (c *correspondence) generates(body []byte) {
	c.generated = nil
	var object any
	var err error
	switch {
	case bytes.HasPrefix(body, protobufMagic):
		object, err = fromProtobuf(body)
	case bytes.Contains(body, []byte("generateName")):
		object, err = parseYAML(body) // JSON as well
	}
	if prefix := text(object, "metadata", "generateName"); err == nil && prefix != "" {
		c.generated = regexp.MustCompile("(" + regexp.QuoteMeta(prefix[:min(len(prefix), 58)]) + ")[bcdfghjklmnpqrstvwxz2456789]{5}")
	}
}

// pair says whether two values may stand for each other, and notes that they do.
func (c *correspondence) pair(u, s string) bool {
	if c.toSkiff == nil {
		c.toSkiff, c.toUpstream = map[string]string{}, map[string]string{}
	}
	if have, ok := c.toSkiff[u]; ok {
		return have == s
	}
	if _, ok := c.toUpstream[s]; ok {
		return false
	}
	c.toSkiff[u], c.toUpstream[s] = s, u
	return true
}

var (
	identity   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	instant    = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	access     = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
	localPort  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	digest     = regexp.MustCompile(`X509SHA256=[0-9a-f]{64}`)
	current    = regexp.MustCompile(`(?i)((?:current|revision): |resourceversion[^"\d]{0,40})\d+`)
	revision   = regexp.MustCompile(`(resourceVersion\\*":\\*")\d+`)
	completed  = regexp.MustCompile(`\b(gen-?|Bad_|dot\.|g{20,})[bcdfghjklmnpqrstvwxz2456789]{5}\b`)
	undeclared = regexp.MustCompile(`(?s)(Kind=[^)]*\)): .*: field not declared in schema.*`)
	age        = regexp.MustCompile(`^(\d+[smhdy])+$`)
	nodePort   = regexp.MustCompile(`(nodePort: (?:\w+: )?\w+ value: |NodePort\\*":)3[0-2]\d{3}\b`)
	memory     = regexp.MustCompile(`0x[0-9a-f]{6,16}`)
)

// plain is a text without what each server chooses: the same on both sides where
// nothing else differs.
func (c *correspondence) plain(text string) string {
	text = identity.ReplaceAllString(text, "UID")
	text = instant.ReplaceAllStringFunc(text, func(s string) string {
		if recent(s) {
			return "NOW"
		}
		return s
	})
	text = access.ReplaceAllString(text, "kube-api-access-X")
	text = digest.ReplaceAllString(text, "X509SHA256=X")
	text = revision.ReplaceAllString(text, "${1}N")
	text = completed.ReplaceAllString(text, "${1}XXXXX")
	if c.generated != nil {
		text = c.generated.ReplaceAllString(text, "${1}XXXXX")
	}
	text = undeclared.ReplaceAllString(text, "$1: FIELD: field not declared in schema") // the first of a map, in whatever order that comes
	text = current.ReplaceAllString(text, "${1}N")
	text = localPort.ReplaceAllString(text, "SERVER")
	text = nodePort.ReplaceAllString(text, "${1}PORT")
	text = memory.ReplaceAllString(text, "POINTER")
	for _, u := range sortedKeys(c.toSkiff) {
		s := c.toSkiff[u]
		if u == s || len(u) < 4 {
			continue
		}
		text = strings.ReplaceAll(text, u, "«"+u+"»")
		text = strings.ReplaceAll(text, s, "«"+u+"»")
	}
	return text
}

func recent(s string) bool {
	t, err := time.Parse(time.RFC3339Nano, s)
	return err == nil && time.Since(t).Abs() < 2*time.Hour
}

// decode reads an answer's body: JSON, or protobuf by its type. Nil: neither.
func decode(a Answer) any {
	if a.Err != nil {
		return nil
	}
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	switch media {
	case "application/json", "application/apply-patch+yaml":
		v, err := parse(a.Body)
		if err == nil {
			return v
		}
	case "application/yaml":
		if v, err := parseYAML(a.Body); err == nil && v != nil {
			return v
		}
	case "application/vnd.kubernetes.protobuf":
		if v, err := fromProtobuf(a.Body); err == nil {
			return v
		}
	}
	return nil
}

// compareObjects says in which fields two objects differ.
func compareObjects(u, s any, k *knowledge) []Difference {
	var list []Difference
	c := comparison{names: &k.names, found: func(path []string, u, s string) {
		shape := "object: " + fieldPath(path)
		switch {
		case s == "":
			shape += " missing"
		case u == "":
			shape += " extra"
		default:
			shape += " differs" + scalar(u) + scalar(s)
		}
		list = append(list, Difference{shape, shorten(u, 1500), shorten(s, 1500)})
	}}
	c.values(nil, u, s)
	return list
}

// scalar is a short value, to be part of a shape.
func scalar(s string) string {
	if len(s) > 24 || strings.ContainsAny(s, "{[") {
		return ""
	}
	return " " + digits.ReplaceAllString(s, "N")
}

func fieldPath(path []string) string {
	shown := slices.Clone(path)
	if i := slices.Index(shown, "fieldsV1"); i >= 0 && len(shown) > i+3 {
		shown = append(shown[:i+3], "…") // who owns what below is the same matter
	}
	for i, step := range shown {
		if strings.HasPrefix(step, "[") {
			shown[i] = "[]"
		}
		if i > 0 && (shown[i-1] == "labels" || shown[i-1] == "annotations" || shown[i-1] == "data") {
			shown[i] = "{}"
		}
	}
	return pathString(shown)
}

type comparison struct {
	names *correspondence
	found func(path []string, u, s string)
}

func (c *comparison) values(path []string, u, s any) {
	switch u := u.(type) {
	case map[string]any:
		if s, ok := s.(map[string]any); ok {
			c.objects(path, u, s)
			return
		}
	case []any:
		if s, ok := s.([]any); ok {
			c.lists(path, u, s)
			return
		}
	}
	if !c.same(path, u, s) {
		c.found(path, show(u), show(s))
	}
}

func show(v any) string { return string(render(v)) }

func (c *comparison) objects(path []string, u, s map[string]any) {
	u, s = plainKeys(u), plainKeys(s)
	keys := keysOf(u)
	for _, k := range keysOf(s) {
		if _, both := u[k]; !both {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		next := append(slices.Clone(path), k)
		vu, inU := u[k]
		vs, inS := s[k]
		switch {
		case inU && inS:
			c.values(next, vu, vs)
		case inU:
			c.found(next, show(vu), "")
		default:
			c.found(next, "", show(vs))
		}
	}
}

// plainKeys is an object without what each server chooses in its keys: the names that
// managedFields has of volumes.
func plainKeys(m map[string]any) map[string]any {
	for k := range m {
		if access.MatchString(k) {
			m = maps.Clone(m)
			m[access.ReplaceAllString(k, "kube-api-access-X")] = m[k]
			delete(m, k)
			return m // an object has one
		}
	}
	return m
}

func (c *comparison) lists(path []string, u, s []any) {
	if len(path) > 0 && path[len(path)-1] == "managedFields" && slices.EqualFunc(u, s, sameOperation) {
		u, s = byManager(u), byManager(s)
	}
	if len(u) != len(s) {
		c.found(append(slices.Clone(path), "[length]"), show(u), show(s))
		return
	}
	for i := range u {
		c.values(append(slices.Clone(path), "["+itoa(i)+"]"), u[i], s[i])
	}
}

// sameOperation compares what comes before time and manager in the order of
// managedFields.
func sameOperation(u, s any) bool { return text(u, "operation") == text(s, "operation") }

// byManager puts the entries of managedFields in an order of their own: among those
// of one second, servers have them in any.
func byManager(entries []any) []any {
	key := func(e any) string {
		return text(e, "operation") + " " + text(e, "manager") + " " + text(e, "subresource") + " " + text(e, "apiVersion")
	}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b any) int { return strings.Compare(key(a), key(b)) })
	return entries
}

// same compares two plain values, those that each server chooses by whether they
// stand for each other.
func (c *comparison) same(path []string, u, s any) bool {
	last := ""
	for i := len(path) - 1; i >= 0 && (last == "" || strings.HasPrefix(last, "[")); i-- {
		last = path[i]
	}
	tu, ts := fmt.Sprint(u), fmt.Sprint(s)
	if fmt.Sprintf("%T", u) != fmt.Sprintf("%T", s) {
		return false
	}
	switch {
	case tu == ts && last != "uid":
		return true
	case last == "cells" && age.MatchString(tu) && age.MatchString(ts):
		return true
	case last == "resourceVersion" || last == "continue" || last == "token":
		return (tu == "") == (ts == "")
	case last == "uid" && identity.MatchString(tu) && identity.MatchString(ts):
		return c.names.pair(tu, ts)
	case last == "clusterIP" || last == "clusterIPs":
		return strings.HasPrefix(tu, "10.43.") && strings.HasPrefix(ts, "10.43.") && c.names.pair(tu, ts)
	case last == "nodePort" || last == "healthCheckNodePort":
		return isNodePort(u) && isNodePort(s) && c.names.pair(tu, ts)
	case last == "name" && len(tu) == len(ts) && len(tu) > 5 && tu[:len(tu)-5] == ts[:len(ts)-5]:
		return c.names.pair(tu, ts)
	case instant.MatchString(tu) && instant.MatchString(ts) && len(tu) == len(ts) && recent(tu) && recent(ts):
		return true
	}
	return c.names.plain(tu) == c.names.plain(ts)
}

func isNodePort(v any) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	port, err := n.Int64()
	return err == nil && port >= 30000 && port <= 32767
}
