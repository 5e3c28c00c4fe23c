package main

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

func number(s string) json.Number { return json.Number(s) }

// Pools are the values that valid objects have, by the name of the field, so that
// a field may get what another one of its name has.
type Pools map[string][]any

// gather adds an object's values.
func (p Pools) gather(name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range keysOf(v) {
			p.gather(key, v[key])
		}
	case []any:
		for _, e := range v {
			p.gather(name, e)
		}
	}
	if len(p[name]) < 12 && !slices.ContainsFunc(p[name], func(have any) bool { return string(render(have)) == string(render(v)) }) {
		p[name] = append(p[name], cloneAny(v))
	}
}

// sampler makes plausible values.
type sampler struct {
	schemas *Schemas
	pools   Pools
	random  *rand.Rand
}

// value makes one for a field of that name: what a valid object has there, or what
// its type asks for.
func (s sampler) value(name string, of *Schema) any {
	if pool := s.pools[name]; len(pool) > 0 {
		v := pool[s.random.IntN(len(pool))]
		if fits(s.schemas.class(of), v) {
			return cloneAny(v)
		}
	}
	return s.plain(name, of, 0)
}

// fits says whether a value is of a class.
func fits(class string, v any) bool {
	switch v.(type) {
	case string:
		return slices.Contains([]string{"string", "quantity", "intorstring", "time", "bytes"}, class)
	case json.Number:
		return slices.Contains([]string{"integer", "number", "intorstring", "quantity"}, class)
	case bool:
		return class == "boolean"
	case []any:
		return class == "array"
	case map[string]any:
		return slices.Contains([]string{"object", "map", "fields"}, class)
	}
	return false
}

func (s sampler) plain(name string, of *Schema, depth int) any {
	of = s.schemas.resolve(of)
	if len(of.Enum) > 0 {
		return of.Enum[s.random.IntN(len(of.Enum))]
	}
	switch s.schemas.class(of) {
	case "string":
		return plainText(name)
	case "integer", "number", "intorstring":
		return number("1")
	case "boolean":
		return true
	case "quantity":
		return "1"
	case "time":
		return "2026-01-02T03:04:05Z"
	case "bytes":
		return "aGVsbG8="
	case "array":
		return []any{s.plain(name, of.Items, depth+1)}
	case "map":
		return map[string]any{"key": s.plain(name, of.Additional, depth+1)}
	case "object":
		object := map[string]any{}
		for _, required := range of.Required {
			if depth < 6 {
				object[required] = s.plain(required, of.Properties[required], depth+1)
			}
		}
		return object
	}
	return map[string]any{}
}

// plainText is a valid text for most fields of a name.
func plainText(name string) string {
	lower := strings.ToLower(name)
	switch {
	case strings.Contains(lower, "path"):
		return "/some/path"
	case strings.HasSuffix(lower, "ip") || strings.HasSuffix(lower, "ips"):
		return "192.0.2.7"
	case strings.Contains(lower, "cidr"):
		return "10.9.0.0/24"
	}
	return "some-" + strings.ReplaceAll(lower, "-", "")
}

// odd are the values that a class does not expect, by what is odd about them.
func odd(class string) []variant {
	switch class {
	case "string":
		return oddTexts
	case "integer", "number":
		return oddNumbers
	case "boolean":
		return []variant{{"true", true}, {"false", false}, {"text", "true"}, {"number", number("1")}}
	case "quantity":
		return oddQuantities
	case "intorstring":
		return oddPorts
	case "time":
		return []variant{{"no time", "yesterday"}, {"empty", ""}, {"number", number("5")}, {"time", "2020-02-03T04:05:06Z"},
			{"fraction", "2020-02-03T04:05:06.789Z"}, {"zone", "2020-02-03T04:05:06+02:00"}, {"far", "9999-12-31T23:59:59Z"}}
	case "bytes":
		return []variant{{"no base64", "not base64!"}, {"empty", ""}, {"bytes", "aGVsbG8="}, {"number", number("5")}, {"unpadded", "aGVsbG8"}}
	case "array":
		return []variant{{"empty", []any{}}, {"object", map[string]any{}}, {"text", "text"}, {"item null", []any{nil}}}
	case "map":
		return oddMaps
	case "object", "fields":
		return []variant{{"empty", map[string]any{}}, {"list", []any{}}, {"text", "text"}, {"number", number("1")}}
	}
	return nil
}

// variant is a value and what is odd about it.
type variant struct {
	name  string
	value any
}

var (
	long63  = strings.Repeat("a", 64)
	long253 = strings.Repeat("a", 254)
	long4k  = strings.Repeat("a", 5000)
	long64K = strings.Repeat("a", 66_000)
	longMi  = strings.Repeat("a", 1<<20+1)
)

var oddTexts = []variant{
	{"empty", ""}, {"space", " "}, {"upper case", "Bad_Name!"}, {"unicode", "ünï→中"}, {"number", number("5")}, {"object", map[string]any{}},
	{"list", []any{"a"}}, {"true", true}, {"64 long", long63}, {"254 long", long253}, {"5000 long", long4k}, {"66000 long", long64K}, {"unknown", "Unknown"},
	{"name", "abc"}, {"other name", "xyz-1"}, {"dots", "a.b.c"}, {"domain", "example.com/name"}, {"two slashes", "a/b/c"}, {"long domain", long253 + "/a"}, {"long after domain", "example.com/" + long4k}, {"bad after domain", "example.com/Bad_Name!"}, {"bad domain", "Example_com/a"},
	{"space first", " abc"},
	{"slash", "/"}, {"path", "/tmp/x"}, {"up", "../x"}, {"up inside", "/a/../b"}, {"digits", "12"}, {"zero", "0"}, {"negative", "-1"}, {"huge", "99999999999"},
	{"IPv4", "192.0.2.9"}, {"IPv6", "2001:db8::1"}, {"old IPv4", "192.0.02.9"}, {"loopback", "127.0.0.1"}, {"unspecified", "0.0.0.0"}, {"link-local", "169.254.1.1"}, {"multicast", "224.0.0.1"},
	{"mapped", "::ffff:1.2.3.4"}, {"long IPv6", "2001:0db8:0000::0001"},
	{"CIDR", "10.9.8.0/24"}, {"loose CIDR", "10.9.8.7/24"}, {"URL", "https://example.com/x"}, {"newline", "a\nb"}, {"NUL", "a\x00b"}, {"star", "*"}, {"dash first", "-a"}, {"dot", "."}, {"two dots", ".."},
	{"equals", "a=b"}, {"colon", "a:b"}, {"percent", "50%"}, {"underscore", "a_b"}, {"wildcard", "*.example.com"}, {"trailing dot", "example.com."},
	{"variable", "$(HOME)"}, {"two variables", "$(A)/$(B"}, {"quote", `a"b\c`},
}

var oddNumbers = []variant{
	{"zero", number("0")}, {"negative", number("-1")}, {"one", number("1")}, {"two", number("2")}, {"100", number("100")}, {"101", number("101")}, {"1000", number("1000")},
	{"65535", number("65535")}, {"65536", number("65536")}, {"30000", number("30000")}, {"max int32", number("2147483647")},
	{"above int32", number("2147483648")}, {"max int64", number("9223372036854775807")}, {"above int64", number("9223372036854775808")},
	{"min int32", number("-2147483648")}, {"fraction", number("1.5")}, {"whole fraction", number("2.0")}, {"exponent", number("1e3")}, {"text", "5"}, {"true", true}, {"600", number("600")}, {"86401", number("86401")},
}

var oddQuantities = []variant{
	{"zero", "0"}, {"negative", "-1"}, {"fraction", "1.5"}, {"exponent", "1e3"}, {"word", "abc"}, {"Ki", "1Ki"}, {"milli", "100m"}, {"empty", ""},
	{"huge", "9999999999999999999"}, {"tiny", "0.0001"}, {"number", number("1")}, {"number fraction", number("0.5")}, {"uncanonical", "0.1000"}, {"1000m", "1000m"},
	{"micro", "1u"}, {"space", " 1"}, {"upper M", "5M"}, {"E", "8E"}, {"negative milli", "-5m"}, {"true", true}, {"object", map[string]any{}},
}

var oddPorts = []variant{
	{"zero", number("0")}, {"80", number("80")}, {"65536", number("65536")}, {"negative", number("-1")}, {"name", "http"}, {"half", "50%"}, {"above 100%", "101%"},
	{"0%", "0%"}, {"100%", "100%"}, {"negative %", "-1%"}, {"digits", "80"}, {"empty", ""}, {"upper case", "HTTP"}, {"long", "much-too-long-a-name"}, {"fraction", number("1.5")},
	{"true", true}, {"two dashes", "a--b"}, {"underscore", "a_b"}, {"percent alone", "%"}, {"unicode", "ü"}, {"huge", number("4294967296")},
}

var oddMaps = []variant{
	{"empty", map[string]any{}}, {"list", []any{}}, {"text", "text"},
	{"bad key", map[string]any{"bad key!": "1"}}, {"empty key", map[string]any{"": "1"}}, {"long key", map[string]any{long63: "1"}},
	{"prefixed key", map[string]any{"example.com/a": "1"}}, {"bad prefix", map[string]any{"Example_com/a": "1"}}, {"long prefix", map[string]any{long253 + "/a": "1"}},
	{"two slashes", map[string]any{"a/b/c": "1"}}, {"bad value", map[string]any{"a": "bad value!"}}, {"long value", map[string]any{"a": long63}}, {"mebibyte", map[string]any{"a": longMi}},
	{"empty value", map[string]any{"a": ""}}, {"number value", map[string]any{"a": number("1")}}, {"null value", map[string]any{"a": nil}}, {"object value", map[string]any{"a": map[string]any{}}},
	{"unicode key", map[string]any{"ü": "1"}}, {"dots", map[string]any{"..": "1"}}, {"dot", map[string]any{".a": "1"}}, {"two", map[string]any{"b": "2", "a": "1"}},
	{"reserved", map[string]any{"kubernetes.io/x": "1"}}, {"resources", map[string]any{"cpu": "1", "memory": "1Gi"}}, {"extended", map[string]any{"example.com/gpu": "1"}},
	{"fixed point", map[string]any{"cpu": "0.0001", "memory": "1500m"}}, {"negative", map[string]any{"cpu": "-1", "memory": "-1Gi", "example.com/gpu": "-1"}}, {"half extended", map[string]any{"example.com/gpu": "500m"}}, {"hugepages", map[string]any{"hugepages-2Mi": "4Mi"}}, {"storage", map[string]any{"ephemeral-storage": "1Gi"}}, {"unknown resource", map[string]any{"unknown": "1"}},
}
