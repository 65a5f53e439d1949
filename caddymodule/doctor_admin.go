package caddymodule

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

const (
	adminReached = "every program of this host reaches it at %s without a credential, and can load a config of its own there or export password rings"
	adminRemedy  = "write `admin unix//run/anteroom/admin.sock|0600` into the global options"
)

// openAdmin returns the address at which every program of the host reaches the admin interface; empty: none. It asks for no credential:
// over TCP each of the programs that the services tell apart may export a ring, or load a config of its own.
func openAdmin(admin *caddy.AdminConfig) string {
	if admin == nil {
		admin = new(caddy.AdminConfig)
	}
	if admin.Disabled {
		return ""
	}
	listen := caddy.NewReplacer().ReplaceKnown(cmp.Or(admin.Listen, caddy.DefaultAdminListen), "")
	if addr, err := caddy.ParseNetworkAddress(listen); err == nil && (addr.IsUnixNetwork() || addr.IsFdNetwork()) {
		return ""
	}
	return listen
}

// warnAdmin tells of an open admin interface where the Caddyfile is read, once for all of it: when a config is loaded, no module sees
// that part. Like what the adapter itself warns of, it goes to Caddy's own log.
func warnAdmin(h httpcaddyfile.Helper) {
	const told = "anteroom.admin"
	if h.State[told] != nil {
		return
	}
	h.State[told] = true
	admin, _ := h.Option("admin").(*caddy.AdminConfig)
	if listen := openAdmin(admin); listen != "" {
		caddy.Log().Named("anteroom").Warn("the admin interface: " + strings.Replace(adminReached, "%s", listen, 1) + "; " + adminRemedy + ", or `admin off`")
	}
}

// examineAdmin looks at who can reach the admin interface of a config with a gate, or a service for local programs.
func examineAdmin(config []byte) []finding {
	var compact bytes.Buffer
	if json.Compact(&compact, config) == nil {
		config = compact.Bytes()
	}
	if !bytes.Contains(config, []byte(`"hmac_service"`)) && !bytes.Contains(config, []byte(`"envelope_service"`)) && !bytes.Contains(config, []byte(`"handler":"anteroom"`)) {
		return nil
	}
	var cfg struct {
		Admin *caddy.AdminConfig `json:"admin"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil // examineConfig says it
	}
	switch listen := openAdmin(cfg.Admin); {
	case listen != "":
		return []finding{{stateWarn, "admin", strings.Replace(adminReached, "%s", listen, 1), adminRemedy}}
	case cfg.Admin != nil && cfg.Admin.Disabled:
		return []finding{{stateOK, "admin", "it is off", ""}}
	}
	return []finding{{stateOK, "admin", "it listens on a socket", ""}}
}
