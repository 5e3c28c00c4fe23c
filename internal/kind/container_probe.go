package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// probeRule is what one kind of probe asks beyond what all ask.
type probeRule func(*field.Path, *corev1.Probe) field.ErrorList

func onlyOneSuccess(path *field.Path, p *corev1.Probe) field.ErrorList {
	if p.SuccessThreshold != 1 {
		return field.ErrorList{field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")}
	}
	return nil
}

func noGracePeriod(path *field.Path, p *corev1.Probe) field.ErrorList {
	if p.TerminationGracePeriodSeconds != nil {
		return field.ErrorList{field.Invalid(path.Child("terminationGracePeriodSeconds"), p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")}
	}
	return nil
}

func validateProbe(path *field.Path, p *corev1.Probe, rule probeRule) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(path, handler{exec: p.Exec, httpGet: p.HTTPGet, tcpSocket: p.TCPSocket, grpc: p.GRPC}, nil)
	errs = append(errs, nonNegative(path.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))...)
	errs = append(errs, nonNegative(path.Child("timeoutSeconds"), int64(p.TimeoutSeconds))...)
	errs = append(errs, nonNegative(path.Child("periodSeconds"), int64(p.PeriodSeconds))...)
	errs = append(errs, nonNegative(path.Child("successThreshold"), int64(p.SuccessThreshold))...)
	errs = append(errs, nonNegative(path.Child("failureThreshold"), int64(p.FailureThreshold))...)
	if grace := p.TerminationGracePeriodSeconds; grace != nil && *grace <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *grace, "must be greater than 0"))
	}
	return append(errs, rule(path, p)...)
}

func validateLifecycle(path *field.Path, l *corev1.Lifecycle, grace *int64) field.ErrorList {
	var errs field.ErrorList
	hook := func(name string, h *corev1.LifecycleHandler) {
		if h != nil {
			actions := handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep}
			errs = append(errs, validateHandler(path.Child(name), actions, grace)...)
		}
	}
	hook("postStart", l.PostStart)
	hook("preStop", l.PreStop)
	return errs
}

// handler is one action of a probe or hook; exactly one field is to be set.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

// validateHandler checks the first action and refuses further ones.
func validateHandler(path *field.Path, h handler, grace *int64) field.ErrorList {
	var errs field.ErrorList
	found := false
	action := func(name string, set bool, check func(*field.Path) field.ErrorList) {
		switch {
		case set && found:
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
		case set:
			found = true
			errs = append(errs, check(path.Child(name))...)
		}
	}
	action("exec", h.exec != nil, func(at *field.Path) field.ErrorList {
		if len(h.exec.Command) == 0 {
			return field.ErrorList{field.Required(at.Child("command"), "")}
		}
		return nil
	})
	action("httpGet", h.httpGet != nil, func(at *field.Path) field.ErrorList { return validateHTTPGet(at, h.httpGet) })
	action("tcpSocket", h.tcpSocket != nil, func(at *field.Path) field.ErrorList {
		return validatePortOrName(at.Child("port"), h.tcpSocket.Port)
	})
	action("grpc", h.grpc != nil, func(at *field.Path) field.ErrorList {
		return validatePortOrName(at.Child("port"), intstr.FromInt32(h.grpc.Port))
	})
	action("sleep", h.sleep != nil, func(at *field.Path) field.ErrorList { return validateSleep(at, h.sleep, grace) })
	if !found {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateSleep(path *field.Path, s *corev1.SleepAction, grace *int64) field.ErrorList {
	if grace != nil && (s.Seconds < 0 || s.Seconds > *grace) {
		return field.ErrorList{field.Invalid(path, s.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
	}
	return nil
}

func validateHTTPGet(path *field.Path, get *corev1.HTTPGetAction) field.ErrorList {
	errs := notEmpty(path.Child("path"), get.Path)
	errs = append(errs, validatePortOrName(path.Child("port"), get.Port)...)
	errs = append(errs, oneOf(path.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, header := range get.HTTPHeaders {
		errs = append(errs, invalidEach(path.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

// validatePortOrName checks a port given by number or by a container port's name.
func validatePortOrName(path *field.Path, port intstr.IntOrString) field.ErrorList {
	if port.Type == intstr.String {
		return invalidEach(path, port.StrVal, validation.IsValidPortName(port.StrVal))
	}
	return invalidEach(path, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
}
