package caddymodule

import (
	"strings"
	"testing"
)

// withPortal is the tests' global block with a portal.
func (b bench) withPortal(portal, sites string) string {
	return strings.Replace(b.file("", sites), "\t\tsession {", "\t\tportal "+portal+"\n\t\tsession {", 1)
}

const (
	gatedSite  = "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	portalSite = "other.test:8443 {\n\tTLS\n\tanteroom\n}\n"
)

// A portal that nobody can reach, and a site that denies everything by mistake, must not load.
func TestPortalRefusedConfigs(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"no such site":                    {b.withPortal("auth.test", gatedSite), []string{"portal auth.test", "add `auth.test { anteroom }`"}},
		"no such gated site":              {b.withPortal("other.test:8443", gatedSite+"other.test:8443 {\n\tTLS\n\trespond ok\n}\n"), []string{"portal other.test:8443"}},
		"not the portal, no allow":        {b.withPortal("app.test:8443", gatedSite+portalSite), []string{"other.test", "add one, for example `allow any`"}},
		"the portal and another, no rule": {b.withPortal("other.test:8443", gatedSite+strings.Replace(portalSite, "other.test:8443", "other.test:8443, third.test:8443", 1)), []string{"without an `allow` line"}},
		"on another port":                 {b.withPortal("other.test:8443", gatedSite+portalSite+"other.test:9443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\n"), []string{"differ only by port"}},
		"a source called portal":          {strings.Replace(b.withPortal("other.test:8443", gatedSite+portalSite), "identity oidc idp", "identity oidc portal", 1), []string{"give it another name"}},
		"two rules for a role":            {strings.Replace(b.file("", gatedSite), "\t\tsession {", "\t\tsession role doctor idle 20m\n\t\tsession role doctor idle 30m\n\t\tsession {", 1), []string{"stands at Caddyfile:"}},
		"idle of a role beyond the end":   {strings.Replace(b.file("", gatedSite), "\t\tsession {", "\t\tsession role doctor idle 13h\n\t\tsession {\n\t\t\tabsolute 10h", 1), []string{"role doctor", "13h", "10h"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				config, err := adapt(t, c.text)
				if err == nil {
					err = validate(t, config)
				}
				if err == nil {
					t.Fatal("it loads")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Fatalf("the message lacks %q:\n%v", want, err)
					}
				}
			}
		})
	}
}

func TestPortalAcceptedConfigs(t *testing.T) {
	b := newBench(t)
	for name, text := range map[string]string{
		"a site of its own":     b.withPortal("other.test:8443", gatedSite+portalSite),
		"behind a port mapping": b.withPortal("Other.test:443", gatedSite+portalSite),
		"a site with an app":    b.withPortal("app.test:8443", gatedSite),
	} {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				config, err := adapt(t, text)
				if err != nil {
					t.Fatal(err)
				}
				if err := validate(t, config); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestServedHosts(t *testing.T) {
	b := newBench(t)
	config, err := adapt(t, b.withPortal("other.test:8443", gatedSite+portalSite))
	if err != nil {
		t.Fatal(err)
	}
	run(t, config)
	app, _ := active(t)
	for host, want := range map[string]bool{
		"app.test": true, "app.test:8443": true, "other.test:1": true,
		"": false, "evil.test": false, "app.test.evil.test": false, "xapp.test": false, "app.test:8443:8443": false, "[::1]:8443": false,
	} {
		if got := app.serves(host); got != want {
			t.Errorf("serves(%q) is %t", host, got)
		}
	}
}
