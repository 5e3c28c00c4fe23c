package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

const (
	// nodeReportInterval is how long an unchanged status stays unwritten.
	nodeReportInterval = 5 * time.Minute
	// nodeCheckInterval is how often memory, disk and processes are looked at.
	nodeCheckInterval = 10 * time.Second
	maxNodeImages     = 50
)

// runNode keeps the Node object: it makes it or brings it up to date, and then
// writes its status when that changes, or every five minutes.
func (a *Agent) runNode(ctx context.Context) error {
	delay := newRetry(200*time.Millisecond, 10*time.Second)
	trouble := complaint{log: a.log}
	a.refreshImages(ctx)
	var node *corev1.Node
	for node == nil {
		var err error
		if node, err = a.register(ctx); err != nil {
			trouble.tell("register node: the API server does not answer; retrying", err)
			if !delay.wait(ctx) {
				return nil
			}
		}
	}
	a.log.Info("node registered", zap.String("node", node.Name))
	a.nodeUID.Store(&node.UID)
	close(a.registered)
	reported := time.Now()
	tick := time.NewTicker(nodeCheckInterval)
	defer tick.Stop()
	delay.reset()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.relieve(ctx)
			a.collectImages(ctx)
			a.collectDead(time.Now())
		case <-a.seen:
		case <-a.nodeChanged:
			a.refreshImages(ctx)
		}
		written, err := a.reportNode(ctx, time.Since(reported) >= nodeReportInterval)
		if err != nil {
			trouble.tell("report node status; trying again at the next look", err)
		} else {
			trouble.end()
		}
		if written {
			reported = time.Now()
		}
	}
}

// reportNode writes the Node's status if it is due or not what the server has.
// Others write it too: a control plane that missed this node's renewals for a
// while has made it Unknown, and its Pods would soon be driven away.
func (a *Agent) reportNode(ctx context.Context, due bool) (written bool, err error) {
	node := a.own.get()
	if node == nil {
		if a.own.dismissed() {
			return false, nil
		}
		if node, err = a.register(ctx); err != nil {
			return false, err
		}
		a.nodeUID.Store(&node.UID)
		return true, nil
	}
	want := a.nodeStatus(node)
	if !due && sameNodeStatus(node.Status, want) {
		return false, nil
	}
	_, err = a.patchNodeStatus(ctx, node, want)
	return err == nil, err
}

// pokeNode asks for the Node's status to be looked at again.
func (a *Agent) pokeNode() {
	select {
	case a.nodeChanged <- struct{}{}:
	default:
	}
}

func (a *Agent) refreshImages(ctx context.Context) {
	list, err := a.Images.List(ctx)
	if err != nil {
		a.log.Debug("list images", zap.Error(err))
		return
	}
	a.imageUses.see(list, nil, time.Now())
	images := nodeImages(list)
	a.images.Store(&images)
}

// register creates the Node, or patches what this node says of itself into the
// one that exists, leaving everything else alone.
func (a *Agent) register(ctx context.Context) (*corev1.Node, error) {
	nodes := a.Client.CoreV1().Nodes()
	old, err := nodes.Get(ctx, a.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: a.NodeName, Labels: a.nodeLabels(),
			Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		}}
		node.Spec.Taints = a.Taints
		node.Status = a.nodeStatus(node)
		if old, err = nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("create node %s: %w", a.NodeName, err)
		}
		if len(old.Status.Conditions) > 0 {
			a.own.see(old)
			return old, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", a.NodeName, err)
	}
	labels := maps.Clone(old.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, a.nodeLabels())
	if !maps.Equal(labels, old.Labels) {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": a.nodeLabels()}})
		if err != nil {
			return nil, fmt.Errorf("encode labels of node %s: %w", a.NodeName, err)
		}
		if old, err = nodes.Patch(ctx, a.NodeName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return nil, fmt.Errorf("label node %s: %w", a.NodeName, err)
		}
	}
	return a.patchNodeStatus(ctx, old, a.nodeStatus(old))
}

func (a *Agent) patchNodeStatus(ctx context.Context, old *corev1.Node, want corev1.NodeStatus) (*corev1.Node, error) {
	updated := old.DeepCopy()
	updated.Status = want
	now := metav1.NewTime(a.now())
	for i := range updated.Status.Conditions {
		if ownCondition(updated.Status.Conditions[i].Type) {
			updated.Status.Conditions[i].LastHeartbeatTime = now
		}
	}
	oldData, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("encode node %s: %w", old.Name, err)
	}
	newData, err := json.Marshal(updated)
	if err != nil {
		return nil, fmt.Errorf("encode node %s: %w", old.Name, err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(oldData, newData, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("compare status of node %s: %w", old.Name, err)
	}
	if !apiequality.Semantic.DeepEqual(old.Status.Addresses, want.Addresses) {
		if patch, err = replaceAddresses(patch, want.Addresses); err != nil {
			return nil, fmt.Errorf("compare addresses of node %s: %w", old.Name, err)
		}
	}
	node, err := a.Client.CoreV1().Nodes().Patch(ctx, old.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch status of node %s: %w", old.Name, err)
	}
	a.own.see(node)
	return node, nil
}

// replaceAddresses makes a patch replace all addresses: merged by their type,
// as the API declares them, two of one type would become one.
func replaceAddresses(patch []byte, addresses []corev1.NodeAddress) ([]byte, error) {
	var fields map[string]map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, err
	}
	list := []any{map[string]string{"$patch": "replace"}}
	for _, a := range addresses {
		list = append(list, a)
	}
	fields["status"]["addresses"] = list
	delete(fields["status"], "$setElementOrder/addresses")
	return json.Marshal(fields)
}

func (a *Agent) nodeLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname:      a.NodeName,
		corev1.LabelOSStable:      a.machine.Info.OperatingSystem,
		corev1.LabelArchStable:    a.machine.Info.Architecture,
		"beta.kubernetes.io/os":   a.machine.Info.OperatingSystem,
		"beta.kubernetes.io/arch": a.machine.Info.Architecture,
	}
	maps.Copy(labels, a.Labels)
	return labels
}

// nodeStatus is what the node says of itself now, over what is known of it.
func (a *Agent) nodeStatus(known *corev1.Node) corev1.NodeStatus {
	s := *known.Status.DeepCopy()
	s.Capacity = capacity(a.machine.Capacity, known.Status.Capacity)
	s.Allocatable = capacity(a.machine.allocatable(), s.Capacity)
	s.NodeInfo = a.machine.Info
	s.RuntimeHandlers = a.runtimeHandlers()
	s.DeclaredFeatures = declaredFeatures()
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	s.Addresses = nil
	for _, ip := range a.nodeIPs() {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.NodeName})
	if port := listenPort(a.Listen); port != 0 {
		s.DaemonEndpoints.KubeletEndpoint.Port = port
	}
	if images := a.images.Load(); images != nil {
		s.Images = *images
	}
	s.Conditions = nodeConditions(s.Conditions, a.health(), metav1.NewTime(a.now()))
	return s
}

// health is what the Node's conditions are made from.
type health struct {
	Pressure
	Err   error // why the node is not ready
	Clock skew
}

func (a *Agent) health() health {
	pressure, _ := a.look()
	h := health{Pressure: pressure, Clock: a.lookAtClock()}
	if err := a.runtimeErr.Load(); err != nil {
		h.Err = *err
	}
	switch {
	case a.goesDown.Load() && h.Err != nil:
		h.Err = aggregate([]error{h.Err, errShutdown})
	case a.goesDown.Load():
		h.Err = errShutdown
	}
	return h
}

func ownCondition(t corev1.NodeConditionType) bool {
	switch t {
	case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady, clockSkew:
		return true
	}
	return false
}

// nodeConditions returns old with this node's own conditions brought up to date;
// those of others stay.
func nodeConditions(old []corev1.NodeCondition, h health, now metav1.Time) []corev1.NodeCondition {
	out := slices.Clone(old)
	set := func(c corev1.NodeCondition) {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		i := slices.IndexFunc(out, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		if i < 0 {
			out = append(out, c)
			return
		}
		if out[i].Status == c.Status {
			c.LastTransitionTime, c.LastHeartbeatTime = out[i].LastTransitionTime, out[i].LastHeartbeatTime
		}
		out[i] = c
	}
	pressure := func(t corev1.NodeConditionType, bad bool, badReason, badMessage, goodReason, goodMessage string) {
		if bad {
			set(corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: badReason, Message: badMessage})
		} else {
			set(corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage})
		}
	}
	pressure(corev1.NodeMemoryPressure, h.Memory,
		"KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
		"KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	pressure(corev1.NodeDiskPressure, h.Disk,
		"KubeletHasDiskPressure", "kubelet has disk pressure",
		"KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	pressure(corev1.NodePIDPressure, h.PIDs,
		"KubeletHasInsufficientPID", "kubelet has insufficient PID available",
		"KubeletHasSufficientPID", "kubelet has sufficient PID available")
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
		Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if h.Err != nil {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", h.Err.Error()
	}
	set(ready)
	if h.Clock.known {
		set(h.Clock.condition())
	}
	return out
}

func nodeImages(images []Image) []corev1.ContainerImage {
	out := make([]corev1.ContainerImage, 0, len(images))
	for _, i := range images {
		names := i.Names
		if len(names) == 0 {
			names = []string{i.Ref}
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), 5)], SizeBytes: i.Size})
	}
	slices.SortFunc(out, func(x, y corev1.ContainerImage) int {
		if x.SizeBytes != y.SizeBytes {
			return int(y.SizeBytes/1024 - x.SizeBytes/1024)
		}
		return strings.Compare(x.Names[0], y.Names[0])
	})
	return out[:min(len(out), maxNodeImages)]
}

// sameNodeStatus compares without heartbeats.
func sameNodeStatus(a, b corev1.NodeStatus) bool {
	strip := func(s corev1.NodeStatus) corev1.NodeStatus {
		s.Conditions = slices.Clone(s.Conditions)
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return s
	}
	return apiequality.Semantic.DeepEqual(strip(a), strip(b))
}

func listenPort(addr string) int32 {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(port, 10, 32)
	return int32(n)
}
