package openapi

import (
	"encoding/base64"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"
)

// toSwagger rewrites a document of version 3 in version 2, as upstream's server
// writes it.
func (d *document) toSwagger() (err error) {
	s := swagger{parameters: map[string]any{}}
	if d.paths, err = rewritten(d.paths, func(_ part, path map[string]any) []byte {
		return appendJSON(nil, s.path(path))
	}); err != nil {
		return err
	}
	if d.schemas, err = rewritten(d.schemas, func(_ part, schema map[string]any) []byte {
		return appendJSON(nil, swaggerSchema(schema))
	}); err != nil {
		return err
	}
	d.head["swagger"] = "2.0"
	d.head["parameters"] = s.parameters
	d.head["securityDefinitions"] = bearer()
	d.head["security"] = []any{map[string]any{"BearerToken": []any{}}}
	return nil
}

// swagger rewrites paths and gathers the parameters that they share.
type swagger struct{ parameters map[string]any }

// path rewrites a path.
func (s *swagger) path(path map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range path {
		switch value := value.(type) {
		case []any:
			out[key] = s.list(value)
		case map[string]any:
			out[key] = s.operation(value)
		}
	}
	return out
}

// operation rewrites an operation. The body that it takes becomes a parameter.
func (s *swagger) operation(o map[string]any) map[string]any {
	out := map[string]any{"schemes": []any{"https"}}
	for key, value := range o {
		switch key {
		case "requestBody", "parameters", "responses":
		default:
			out[key] = value
		}
	}
	produces, plain := s.responses(o, out)
	if len(produces) > 0 {
		out["produces"] = produces
	}
	parameters, _ := o["parameters"].([]any)
	_, acts := o["x-kubernetes-action"]
	switch body, consumes := requestBody(o); {
	case body != nil:
		parameters = slices.Concat([]any{body}, parameters)
		out["consumes"] = consumes
	case acts:
		out["consumes"] = []any{"*/*"}
	case !plain:
		out["consumes"] = produces // what upstream says of its own documents
	}
	if len(parameters) > 0 {
		out["parameters"] = s.list(parameters)
	}
	return out
}

// responses rewrites what an operation answers. It returns the media types, and
// whether they are of texts and not of objects.
func (s *swagger) responses(o, out map[string]any) (produces []any, plain bool) {
	answers := map[string]any{}
	responses, _ := o["responses"].(map[string]any)
	for code, value := range responses {
		response, _ := value.(map[string]any)
		answer := map[string]any{"description": response["description"]}
		types, schema := contentOf(response)
		if schema != nil {
			produces, plain = types, schema["$ref"] == nil
			answer["schema"] = swaggerSchema(schema)
		}
		answers[code] = answer
	}
	out["responses"] = answers
	return produces, plain
}

// requestBody makes a parameter of the body that an operation takes.
func requestBody(o map[string]any) (body map[string]any, consumes []any) {
	request, ok := o["requestBody"].(map[string]any)
	if !ok {
		return nil, nil
	}
	consumes, schema := contentOf(request)
	body = map[string]any{"in": "body", "name": "body", "schema": schema}
	if request["required"] == true {
		body["required"] = true
	}
	return body, consumes
}

// contentOf returns the media types of a body, and its schema, which is the same
// in all of them.
func contentOf(message map[string]any) (types []any, schema map[string]any) {
	content, _ := message["content"].(map[string]any)
	for mediaType, value := range sorted(content) {
		types = append(types, mediaType)
		schema, _ = value.(map[string]any)["schema"].(map[string]any)
	}
	return types, schema
}

// list rewrites parameters; those that can be shared become references.
func (s *swagger) list(parameters []any) []any {
	var out []any
	for _, value := range parameters {
		p := map[string]any{}
		for key, v := range value.(map[string]any) {
			switch schema, _ := v.(map[string]any); {
			case key != "schema":
				p[key] = v
			case value.(map[string]any)["in"] == "body":
				p[key] = swaggerSchema(schema)
			default:
				maps.Copy(p, schema)
			}
		}
		out = append(out, s.share(p))
	}
	return out
}

// share returns a reference to a parameter, and the parameter itself where it is
// of one kind of object, or where clients look for it at its place.
func (s *swagger) share(p map[string]any) any {
	name, _ := p["name"].(string)
	if p["in"] == "body" {
		schema, _ := p["schema"].(map[string]any)
		ref, _ := schema["$ref"].(string)
		if !strings.HasPrefix(ref, definitionPrefix+"io.k8s.apimachinery") {
			return p
		}
	} else if name == "name" || p["in"] == "query" && (name == "fieldValidation" || name == "dryRun") {
		return p
	}
	// Upstream's name for it: of its JSON, whose order is that of a Go type.
	text := []byte{'{'}
	for _, key := range []string{"uniqueItems", "type", "description", "name", "in", "required", "schema"} {
		if value, ok := p[key]; ok {
			text = append(appendJSON(append(appendJSON(text, key), ':'), value), ',')
		}
	}
	text[len(text)-1] = '}'
	hash := fnv.New64()
	_, _ = hash.Write(text)
	name += "-" + base64.URLEncoding.EncodeToString(hash.Sum(nil)[:6])
	s.parameters[name] = p
	return map[string]any{"$ref": "#/parameters/" + name}
}

const (
	schemaPrefix     = "#/components/schemas/"
	definitionPrefix = "#/definitions/"
)

// swaggerSchema rewrites a schema: version 2 has references that say more than
// where they point to, no alternatives, and no defaults by upstream's choice.
func swaggerSchema(schema map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range schema {
		switch key {
		case "default":
		case "$ref":
			out[key] = definitionPrefix + strings.TrimPrefix(value.(string), schemaPrefix)
		case "allOf":
			maps.Copy(out, swaggerSchema(value.([]any)[0].(map[string]any)))
		case "oneOf":
			out["type"] = "string"
		case "properties":
			properties := map[string]any{}
			for name, property := range value.(map[string]any) {
				properties[name] = swaggerSchema(property.(map[string]any))
			}
			out[key] = properties
		case "items", "additionalProperties":
			out[key] = value
			if inner, ok := value.(map[string]any); ok {
				out[key] = swaggerSchema(inner)
			}
		default:
			out[key] = value
		}
	}
	return out
}

// sorted walks a map in the order of its keys.
func sorted(m map[string]any) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
