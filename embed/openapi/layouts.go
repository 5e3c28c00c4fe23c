package openapi

import "google.golang.org/protobuf/encoding/protowire"

// layouts are gnostic's messages for documents (OpenAPIv2.proto, OpenAPIv3.proto
// of google/gnostic-models), as far as upstream's server says something in them.
type layouts struct{ v2, v3 *message }

func newLayouts() layouts { return layouts{layoutV2(), layoutV3()} }

// entries is a message that holds nothing but names and their values.
func entries(of *message) *message { return &message{rest: &field{1, one, of}} }

// only is a message that has the one field for whatever it holds.
func only(f field) *message { return &message{choose: func(any) field { return f }} }

// orReference is a message that is either or a reference.
func orReference(is, reference *message) *message {
	return &message{choose: func(value any) field {
		if object, ok := value.(map[string]any); ok && object["$ref"] != nil {
			return field{2, one, reference}
		}
		return field{1, one, is}
	}}
}

// orFlag is a message that is either in field 1 or a truth value.
func orFlag(is *message) *message {
	return &message{choose: func(value any) field {
		if _, ok := value.(bool); ok {
			return field{number: 2, is: flag}
		}
		return field{1, one, is}
	}}
}

// textFields are fields of texts by their numbers.
func textFields(numbers map[string]protowire.Number) map[string]field {
	fields := map[string]field{}
	for key, number := range numbers {
		fields[key] = field{number: number, is: text}
	}
	return fields
}

// with adds a field.
func (m *message) with(key string, number protowire.Number, is fieldType, of *message) *message {
	m.fields[key] = field{number, is, of}
	return m
}

func layoutV3() *message {
	reference := &message{fields: textFields(map[string]protowire.Number{"$ref": 1, "summary": 2, "description": 3})}
	schema := &message{fields: textFields(map[string]protowire.Number{"title": 9, "pattern": 17, "type": 25, "description": 34, "format": 35}), extensions: 36}
	either := orReference(schema, reference)
	schema.bounds(map[string]protowire.Number{"maximum": 11, "minimum": 13, "maxLength": 15, "minLength": 16, "maxItems": 18, "minItems": 19, "uniqueItems": 20}).
		with("nullable", 1, flag, nil).
		with("required", 23, texts, nil).
		with("enum", 24, anythings, nil).
		with("allOf", 26, many, either).
		with("oneOf", 27, many, either).
		with("anyOf", 28, many, either).
		with("items", 30, one, only(field{1, one, either})).
		with("properties", 31, one, entries(either)).
		with("additionalProperties", 32, one, orFlag(either)).
		with("default", 33, one, &message{choose: plainDefault})

	content := entries(&message{fields: map[string]field{"schema": {1, one, either}}})
	parameter := &message{fields: textFields(map[string]protowire.Number{"name": 1, "in": 2, "description": 3}), extensions: 14}
	parameter.with("required", 4, flag, nil).with("schema", 10, one, either)
	body := &message{fields: map[string]field{"description": {number: 1, is: text}, "content": {2, one, content}, "required": {number: 3, is: flag}}}
	response := &message{fields: map[string]field{"description": {number: 1, is: text}, "content": {3, one, content}}}
	operation := &message{fields: textFields(map[string]protowire.Number{"summary": 2, "description": 3, "operationId": 5}), extensions: 13}
	operation.with("tags", 1, texts, nil).
		with("parameters", 6, many, orReference(parameter, reference)).
		with("requestBody", 7, one, orReference(body, reference)).
		with("responses", 8, one, &message{rest: &field{2, one, orReference(response, reference)}})
	path := &message{fields: map[string]field{"parameters": {13, many, orReference(parameter, reference)}}, extensions: 14}
	path.methods(operation, 4, "get", "put", "post", "delete", "options", "head", "patch")

	security := &message{fields: textFields(map[string]protowire.Number{"type": 1, "description": 2, "name": 3, "in": 4})}
	components := &message{fields: map[string]field{
		"schemas": {1, one, entries(either)}, "securitySchemes": {7, one, entries(orReference(security, reference))},
	}}
	return &message{fields: map[string]field{
		"openapi": {number: 1, is: text}, "info": {2, one, info(1, 6)},
		"paths": {4, one, entries(path)}, "components": {5, one, components},
	}}
}

func layoutV2() *message {
	schema := &message{fields: textFields(map[string]protowire.Number{"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}), extensions: 31}
	schema.bounds(map[string]protowire.Number{"maximum": 7, "minimum": 9, "maxLength": 11, "minLength": 12, "maxItems": 14, "minItems": 15, "uniqueItems": 16}).
		with("required", 19, texts, nil).
		with("enum", 20, anythings, nil).
		with("additionalProperties", 21, one, orFlag(schema)).
		with("type", 22, one, only(field{number: 1, is: text})).
		with("items", 23, one, only(field{1, one, schema})).
		with("properties", 25, one, entries(schema))

	body := &message{fields: textFields(map[string]protowire.Number{"description": 1, "name": 2, "in": 3})}
	body.with("required", 4, flag, nil).with("schema", 5, one, schema)
	// What is in the query and in the path have the same fields up to here.
	query := &message{fields: textFields(map[string]protowire.Number{"in": 2, "description": 3, "name": 4, "type": 6})}
	query.with("required", 1, flag, nil).with("uniqueItems", 20, flag, nil)
	inPath := &message{fields: textFields(map[string]protowire.Number{"in": 2, "description": 3, "name": 4, "type": 5})}
	inPath.with("required", 1, flag, nil).with("uniqueItems", 19, flag, nil)
	parameter := &message{choose: func(value any) field {
		object, _ := value.(map[string]any)
		switch object["in"] {
		case "body":
			return field{1, one, body}
		case "path":
			return field{2, one, only(field{4, one, inPath})}
		}
		return field{2, one, only(field{3, one, query})}
	}}
	reference := &message{fields: textFields(map[string]protowire.Number{"$ref": 1, "description": 2})}

	response := &message{fields: map[string]field{"description": {number: 1, is: text}, "schema": {2, one, only(field{1, one, schema})}}}
	operation := &message{fields: textFields(map[string]protowire.Number{"summary": 2, "description": 3, "operationId": 5}), extensions: 13}
	operation.with("tags", 1, texts, nil).with("produces", 6, texts, nil).with("consumes", 7, texts, nil).with("schemes", 10, texts, nil).
		with("parameters", 8, many, orReference(parameter, reference)).
		with("responses", 9, one, entries(orReference(response, reference)))
	path := &message{fields: map[string]field{"parameters": {9, many, orReference(parameter, reference)}}, extensions: 10}
	path.methods(operation, 2, "get", "put", "post", "delete", "options", "head", "patch")

	key := &message{fields: textFields(map[string]protowire.Number{"type": 1, "name": 2, "in": 3, "description": 4})}
	return &message{fields: map[string]field{
		"swagger": {number: 1, is: text}, "info": {2, one, info(1, 2)},
		"paths": {8, one, &message{rest: &field{2, one, path}}}, "definitions": {9, one, entries(schema)}, "parameters": {10, one, entries(parameter)},
		"security":            {12, many, entries(only(field{number: 1, is: texts}))},
		"securityDefinitions": {13, one, entries(only(field{2, one, key}))},
	}}
}

func info(title, version protowire.Number) *message {
	return &message{fields: textFields(map[string]protowire.Number{"title": title, "version": version})}
}

// bounds adds the fields that bound a schema's values.
func (m *message) bounds(numbers map[string]protowire.Number) *message {
	for key, number := range numbers {
		is := whole
		switch key {
		case "maximum", "minimum":
			is = real
		case "uniqueItems":
			is = flag
		}
		m.with(key, number, is, nil)
	}
	return m
}

// methods adds the operations of a path, numbered one after the other.
func (m *message) methods(operation *message, first protowire.Number, methods ...string) {
	for i, method := range methods {
		m.with(method, first+protowire.Number(i), one, operation)
	}
}

// plainDefault is what version 3 can say of defaults: nothing of lists and objects.
func plainDefault(value any) field {
	switch value.(type) {
	case float64:
		return field{number: 1, is: real}
	case bool:
		return field{number: 2, is: flag}
	}
	return field{number: 3, is: text}
}
