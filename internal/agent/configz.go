package agent

import (
	"encoding/json"
	"maps"
	"net/http"

	"go.uber.org/zap"
)

// serveConfig answers /configz: the settings of a kubelet's configuration
// (kubelet.config.k8s.io/v1beta1) that hold on this node.
func (a *Agent) serveConfig(w http.ResponseWriter, _ *http.Request) {
	dns := make([]string, len(a.ClusterDNS))
	for i, address := range a.ClusterDNS {
		dns[i] = address.String()
	}
	config := map[string]any{
		"enableServer":                   true,
		"port":                           10250,
		"authentication":                 map[string]any{"anonymous": map[string]bool{"enabled": false}, "webhook": map[string]any{"enabled": true, "cacheTTL": identityTime.String()}},
		"authorization":                  map[string]any{"mode": "Webhook", "webhook": map[string]string{"cacheAuthorizedTTL": allowedTime.String(), "cacheUnauthorizedTTL": deniedTime.String()}},
		"clusterDomain":                  a.ClusterDomain,
		"clusterDNS":                     dns,
		"nodeLeaseDurationSeconds":       int(leaseDuration.Seconds()),
		"cgroupDriver":                   "cgroupfs",
		"cgroupRoot":                     "/" + a.Host.CgroupRoot,
		"enableControllerAttachDetach":   true,
		"makeIPTablesUtilChains":         false,
		"protectKernelDefaults":          false,
		"enableDebuggingHandlers":        true,
		"registerNode":                   true,
		"containerRuntimeEndpoint":       "",
		"topologyManagerPolicy":          "none",
		"cpuManagerPolicy":               "none",
		"memoryManagerPolicy":            "None",
		"rotateCertificates":             true,
		"serverTLSBootstrap":             false,
		"streamingConnectionIdleTimeout": "0s",
	}
	maps.Copy(config, a.Kubelet.Configuration())
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"kubeletconfig": config}); err != nil {
		a.log.Debug("answer configz", zap.Error(err))
	}
}
