package kind

// The kinds of the house. Each is written in the file of its name; All is the
// order of discovery.
var All = []*Kind{
	ConfigMap,
	Endpoints,
	Event,
	Namespace,
	Node,
	Pod,
	Secret,
	ServiceAccount,
	Service,
	Deployment,
	ReplicaSet,
	CertificateSigningRequest,
	Lease,
	EndpointSlice,
	PriorityClass,
	RuntimeClass,
}
