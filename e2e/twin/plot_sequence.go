package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// sequence is a story about one object, which drawing would hardly tell: rules about
// several fields, or about what an object has become.
type sequence struct {
	object map[string]any // a JSON merge patch of the resource's first valid object; nil: there is none
	steps  []sequenceStep
	told   string // what upstream says in the end
}

// sequenceStep is a change of the object.
type sequenceStep struct {
	part  string         // through which part; "": the whole, "delete": none
	apply map[string]any // what is applied; nil: the patch is made
	patch map[string]any // a JSON merge patch of the object as it is by then
}

// readSequences returns a resource's sequences; none where there is no file of them.
func readSequences(resource string) ([]sequence, error) {
	documents, err := readBases("bases/sequences/" + resource + ".yaml")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []sequence
	for _, d := range documents {
		s := sequence{told: text(d, "told")}
		s.object, _ = repeated(d["object"]).(map[string]any)
		steps, _ := d["steps"].([]any)
		for _, step := range steps {
			patch, _ := repeated(at(step, "patch")).(map[string]any)
			apply, _ := repeated(at(step, "apply")).(map[string]any)
			s.steps = append(s.steps, sequenceStep{text(step, "part"), apply, patch})
		}
		list = append(list, s)
	}
	return list, nil
}

// repeated puts a long text or list in the place of {repeat: TEXT or LIST, times: N}.
func repeated(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = repeated(v[i])
		}
	case map[string]any:
		if what, ok := v["repeat"]; ok {
			times, err := strconv.Atoi(string(v["times"].(json.Number)))
			if err != nil {
				panic(err) // the files are ours
			}
			if list, ok := what.([]any); ok {
				return slices.Repeat(list, times)
			}
			return strings.Repeat(what.(string), times)
		}
		for key := range v {
			v[key] = repeated(v[key])
		}
	}
	return v
}

// sequences tells all of a resource's, once a run.
func (sc *scenario) sequences() {
	for i, s := range sc.resource.sequences {
		sc.sequence("sequence "+itoa(i+1), s)
		sc.clearIfDirty()
	}
}

func (sc *scenario) sequence(rule string, s sequence) {
	var answer Answer
	if s.object != nil {
		object := sc.settle(patched(sc.resource.bases[0], s.object), "a")
		if name := text(s.object, "metadata", "name"); name != "" {
			put(object, name, "metadata", "name")
		}
		answer, _ = sc.create(object, "a", "", rule)
	}
	for _, step := range s.steps {
		r, ok := sc.request(step)
		if !ok {
			break
		}
		r.Rule = rule
		if answer, _ = sc.ask(r); step.part == "delete" {
			sc.ask(Request{Method: "GET", Path: sc.object("a"), Headers: jsonHeaders(), Verb: "get", Rule: rule, Object: "a"})
		}
	}
	if len(sc.steps) > 0 && sc.ctx.Err() == nil && !strings.Contains(said(answer), s.told) {
		last := &sc.steps[len(sc.steps)-1]
		last.Differences = append(last.Differences, Difference{"a sequence does not end as it is to", tell(answer), "expected: " + s.told})
	}
}

// request is what a step asks for; false: there is no object to ask it of.
func (sc *scenario) request(step sequenceStep) (Request, bool) {
	r := Request{Method: "PUT", Path: sc.object("a"), Headers: jsonHeaders(), Verb: "update", Object: "a"}
	if step.part == "delete" {
		r.Method, r.Verb, r.Object = "DELETE", "delete", ""
		return r, true
	}
	if step.part != "" {
		r.Path, r.Verb = r.Path+"/"+step.part, r.Verb+" "+step.part
	}
	if step.apply != nil {
		r.Method, r.Verb, r.Query = "PATCH", "patch apply", "fieldManager=twin&force=true"
		r.Headers["Content-Type"] = "application/apply-patch+yaml"
		r.Body = render(sc.settle(patched(map[string]any{"apiVersion": sc.resource.GroupVersion().String(), "kind": sc.resource.Kind.Kind}, step.apply), "a"))
		return r, true
	}
	now := sc.objects["a"]
	if now == nil {
		return r, false
	}
	r.Body, r.Other = render(bare(patched(now.upstream, step.patch), true)), render(bare(patched(now.skiff, step.patch), true))
	return r, true
}

// said is a failure's message, or all of another answer.
func said(a Answer) string {
	if message := text(decode(a), "message"); message != "" {
		return message
	}
	return string(a.Body)
}

// patched is an object after a JSON merge patch.
func patched(object, patch map[string]any) map[string]any {
	data, err := jsonpatch.MergePatch(render(object), render(patch))
	if err != nil {
		panic(err) // both are objects
	}
	v, _ := parse(data)
	object, _ = v.(map[string]any)
	return object
}
