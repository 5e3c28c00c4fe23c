package kind

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Skiff runs no Windows nodes, but a manifest for both must be judged as
// upstream judges it.

func validateWindowsOptions(path *field.Path, w *corev1.WindowsSecurityContextOptions) field.ErrorList {
	if w == nil {
		return nil
	}
	const most = 64
	var errs field.ErrorList
	if name := w.GMSACredentialSpecName; name != nil {
		errs = append(errs, invalidEach(path.Child("gmsaCredentialSpecName"), name, validation.IsDNS1123Subdomain(*name))...)
	}
	if spec := w.GMSACredentialSpec; spec != nil {
		at := path.Child("gmsaCredentialSpec")
		switch {
		case *spec == "":
			errs = append(errs, field.Invalid(at, spec, "gmsaCredentialSpec cannot be an empty string"))
		case len(*spec) > most<<10:
			errs = append(errs, field.Invalid(at, spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", most)))
		}
	}
	if name := w.RunAsUserName; name != nil {
		errs = append(errs, invalidEach(path.Child("runAsUserName"), name, windowsUserName(*name))...)
	}
	return errs
}

// windowsUserName says what is wrong with [DOMAIN\]USER.
func windowsUserName(name string) []string {
	parts := strings.Split(name, `\`)
	switch {
	case name == "":
		return []string{"runAsUserName cannot be an empty string"}
	case regexp.MustCompile(`[[:cntrl:]]+`).MatchString(name):
		return []string{"runAsUserName cannot contain control characters"}
	case len(parts) > 2:
		return []string{"runAsUserName cannot contain more than one backslash"}
	}
	var wrong []string
	user := parts[len(parts)-1]
	if len(parts) == 2 {
		wrong = windowsDomain(parts[0])
	}
	switch {
	case user == "":
		wrong = append(wrong, "runAsUserName's User cannot be empty")
	case len(user) > 104:
		wrong = append(wrong, "runAsUserName's User length must not be longer than 104 characters")
	}
	if user != "" && strings.Trim(user, ". ") == "" {
		wrong = append(wrong, "runAsUserName's User cannot contain only periods or spaces")
	}
	if strings.ContainsAny(user, `"/\:;|=,+*?<>@[]`) {
		wrong = append(wrong, `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
	return wrong
}

func windowsDomain(domain string) []string {
	const label = `[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`
	var wrong []string
	if len(domain) >= 256 {
		wrong = append(wrong, "runAsUserName's Domain length must be under 256 characters")
	}
	netBIOS := regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dns := regexp.MustCompile(`^` + label + `(?:\.` + label + `)*$`)
	if !netBIOS.MatchString(domain) && !dns.MatchString(domain) {
		wrong = append(wrong, "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	return wrong
}

// validateWindowsHostProcess: containers run on the host all together, or none.
func validateWindowsHostProcess(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var own *bool
	if sc := spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		own = sc.WindowsOptions.HostProcess
	}
	var errs field.ErrorList
	all, onHost := 0, 0
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		all++
		host := own
		if sc := c.SecurityContext; sc != nil && sc.WindowsOptions != nil && sc.WindowsOptions.HostProcess != nil {
			host = sc.WindowsOptions.HostProcess
			if own != nil && *own != *host {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *host, fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *own)))
			}
		}
		if isTrue(host) {
			onHost++
		}
	})
	if onHost == 0 {
		return errs
	}
	if onHost != all {
		errs = append(errs, field.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !spec.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), spec.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}
