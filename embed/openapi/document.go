package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// version is the release of the API that the documents describe.
const version = "v1.36.3"

// Document puts the named document together, as JSON or as gnostic's protobuf.
func (a *Archive) Document(name string, protobuf bool) ([]byte, error) {
	paths, schemas, err := a.parts(name)
	if err != nil {
		return nil, err
	}
	d := document{
		head:    map[string]any{"info": map[string]any{"title": "Kubernetes", "version": version}},
		paths:   paths,
		schemas: schemas,
	}
	if name == Swagger {
		err = d.toSwagger()
	} else {
		d.head["openapi"] = "3.0.0"
		d.components = map[string]any{"securitySchemes": bearer()}
	}
	if err != nil {
		return nil, err
	}
	if protobuf {
		return d.protobuf()
	}
	return d.json(), nil
}

// bearer is how clients show who they are.
func bearer() map[string]any {
	return map[string]any{"BearerToken": map[string]any{
		"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
	}}
}

// document is a document in parts, those that are many in JSON: so that nobody
// needs all of it in memory at once in any other form.
type document struct {
	head       map[string]any
	components map[string]any // besides the schemas; nil in version 2
	paths      []part
	schemas    []part
}

// json joins the parts.
func (d *document) json() []byte {
	b := append([]byte{}, '{')
	for key, value := range sorted(d.head) {
		b = append(appendJSON(append(appendJSON(b, key), ':'), value), ',')
	}
	b = appendParts(append(b, `"paths":`...), d.paths)
	if d.components == nil {
		b = appendParts(append(b, `,"definitions":`...), d.schemas)
		return append(b, '}')
	}
	b = append(b, `,"components":{`...)
	for key, value := range sorted(d.components) {
		b = append(appendJSON(append(appendJSON(b, key), ':'), value), ',')
	}
	b = appendParts(append(b, `"schemas":`...), d.schemas)
	return append(b, "}}"...)
}

func appendParts(b []byte, parts []part) []byte {
	b = append(b, '{')
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendJSON(b, p.name), ':'), p.data...)
	}
	return append(b, '}')
}

// appendJSON appends a value that was read from JSON or built of the same types.
func appendJSON(b []byte, value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// rewritten gives every part another form.
func rewritten(parts []part, rewrite func(part, map[string]any) []byte) ([]part, error) {
	all := make([]part, 0, len(parts))
	for _, p := range parts {
		var value map[string]any
		if err := json.Unmarshal(p.data, &value); err != nil {
			return nil, fmt.Errorf("read %s: %w", p.name, err)
		}
		all = append(all, part{p.name, rewrite(p, value)})
	}
	return all, nil
}
