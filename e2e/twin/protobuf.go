package main

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

var protobufs = func() *protobuf.Serializer {
	if err := metav1.AddMetaToScheme(scheme.Scheme); err != nil {
		panic(err) // its types are not there twice
	}
	return protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
}()

// protobufMagic is what objects in protobuf begin with.
var protobufMagic = []byte("k8s\x00")

// fromProtobuf reads an object as the tree that its JSON would be.
func fromProtobuf(data []byte) (any, error) {
	object, gvk, err := protobufs.Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(*gvk)
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// toProtobuf writes an object in protobuf. It fails where the object has what its
// type does not allow.
func toProtobuf(object map[string]any) ([]byte, error) {
	typed, _, err := scheme.Codecs.UniversalDeserializer().Decode(render(object), nil, nil)
	if err != nil {
		return nil, err
	}
	return runtime.Encode(protobufs, typed)
}
