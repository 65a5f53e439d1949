package caddymodule

import (
	"strings"
	"testing"
)

// TestProxiesBelieved: nobody chooses the address that a rule judges.
func TestProxiesBelieved(t *testing.T) {
	b := newBench(t)
	const ofNetwork, ofWhen, required = "allow any /** network 10.0.0.0/8", "allow any /** when `inNetwork(request.address, \"10.0.0.0/8\")`", "allow any\nrequire network 10.0.0.0/8 POST"
	const none = "allow any"
	proxies := func(ranges string) string { return "trusted_proxies static " + ranges }
	wrapped := func(lines string) string {
		return "listener_wrappers {\nproxy_protocol {\n" + strings.ReplaceAll(lines, "; ", "\n") + "\n}\ntls\n}"
	}
	const refused, warns, quiet = "refused", "warns", "quiet"
	for name, c := range map[string]struct{ servers, rules, want string }{
		"everybody":                        {proxies("0.0.0.0/0"), ofNetwork, refused},
		"everybody, IPv6":                  {proxies("::/0"), ofNetwork, refused},
		"everybody, both":                  {proxies("0.0.0.0/0 ::/0"), ofNetwork, refused},
		"everybody in two halves":          {proxies("0.0.0.0/1 128.0.0.0/1"), ofNetwork, refused},
		"one half":                         {proxies("0.0.0.0/1"), ofNetwork, refused},
		"the other half":                   {proxies("128.0.0.0/1"), ofNetwork, refused},
		"all of IPv6":                      {proxies("2000::/3"), ofNetwork, refused},
		"everybody, when":                  {proxies("0.0.0.0/0"), ofWhen, refused},
		"everybody, require":               {proxies("0.0.0.0/0"), required, refused},
		"everybody, shadow":                {proxies("0.0.0.0/0"), "allow any\nshadow deny any /x network 10.0.0.0/8", refused},
		"everybody, nobody asks":           {proxies("0.0.0.0/0"), none, warns},
		"private ranges":                   {proxies("private_ranges"), ofNetwork, warns},
		"one private range":                {proxies("10.0.0.0/8"), ofNetwork, warns},
		"private IPv6":                     {proxies("fd00::/8"), ofNetwork, warns},
		"private ranges, nobody asks":      {proxies("private_ranges"), none, quiet},
		"a proxy":                          {proxies("10.1.2.3"), ofNetwork, quiet},
		"some proxies":                     {proxies("10.1.2.3/32 192.0.2.0/28 2001:db8::1"), ofNetwork, quiet},
		"a provider's range":               {proxies("104.16.0.0/13 2606:4700::/32"), ofNetwork, quiet},
		"nobody":                           {"trace", ofNetwork, quiet},
		"PROXY protocol, any":              {wrapped("fallback_policy use"), ofNetwork, refused},
		"PROXY protocol, demanded":         {wrapped("fallback_policy require"), ofNetwork, refused},
		"PROXY protocol, all allowed":      {wrapped("allow 0.0.0.0/0"), ofNetwork, refused},
		"PROXY protocol, any, nobody asks": {wrapped("fallback_policy use"), none, warns},
		"PROXY protocol, private":          {wrapped("allow 10.0.0.0/8"), ofNetwork, warns},
		"PROXY protocol, beside allowed":   {wrapped("allow 10.1.2.3/32; fallback_policy use"), ofNetwork, refused},
		"PROXY protocol, some denied":      {wrapped("deny 10.0.0.0/8; fallback_policy use"), ofNetwork, refused},
		"PROXY protocol of a proxy":        {wrapped("allow 10.1.2.3/32"), ofNetwork, quiet},
		"PROXY protocol, rejected":         {wrapped("allow 10.1.2.3/32; fallback_policy reject"), ofNetwork, quiet},
		"PROXY protocol, ignored":          {wrapped("timeout 2s"), ofNetwork, quiet},
	} {
		t.Run(name, func(t *testing.T) {
			text := b.file("\tservers {\n"+c.servers+"\n}\n", site("app.test", c.rules)+site("other.test", none))
			if c.want == refused {
				config, err := adapt(t, text)
				b.refused(t, config, err, []string{"Caddyfile:", "believes everybody", "network", "192.0.2.10"}[:2])
				return
			}
			if got := b.warned(t, text, "WARN"); strings.Contains(got, "believes") != (c.want == warns) {
				t.Errorf("it logs %s", got)
			}
		})
	}
	socket := b.file("\tservers {\n"+wrapped("fallback_policy use")+"\n}\n", strings.Replace(site("app.test", ofNetwork), "TLS", "TLS\n\tbind unix/"+b.dir+"/s.sock|0600", 1))
	if got := b.warned(t, strings.Replace(socket, "TLS", "tls "+b.dir+"/tls.pem "+b.dir+"/tls.key", 1), "WARN"); strings.Contains(got, "believes") {
		t.Errorf("a Unix socket: %s", got)
	}
}
