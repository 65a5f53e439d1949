package caddymodule

import (
	"bytes"
	"cmp"
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// examineAdmin looks at who can reach the admin interface of a config with a service for local programs. It asks for no
// credential: over TCP each of the programs that the services tell apart may export a ring, or load a config of its own.
func examineAdmin(config []byte) []finding {
	if !bytes.Contains(config, []byte(`"hmac_service"`)) && !bytes.Contains(config, []byte(`"envelope_service"`)) {
		return nil
	}
	var cfg struct {
		Admin *caddy.AdminConfig `json:"admin"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil // examineConfig says it
	}
	admin := cfg.Admin
	if admin == nil {
		admin = new(caddy.AdminConfig)
	}
	if admin.Disabled {
		return []finding{{stateOK, "admin", "it is off", ""}}
	}
	listen := cmp.Or(admin.Listen, caddy.DefaultAdminListen)
	if addr, err := caddy.ParseNetworkAddress(listen); err == nil && (addr.IsUnixNetwork() || addr.IsFdNetwork()) {
		return []finding{{stateOK, "admin", "it listens on a socket", ""}}
	}
	return []finding{{stateWarn, "admin", "every program of this host reaches it at " + listen + " and may export the password rings or load a config of its own: whoever runs as an application needs no credential of the services",
		"write `admin unix//run/anteroom/admin.sock|0600` into the global options"}}
}
