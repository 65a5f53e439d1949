package main

import (
	"fmt"
	"strings"
)

// app is one sample application: its host below localhost, what it is for, who may use it.
type app struct {
	name, title, about string
	roles              []string
}

var apps = []app{
	{"careconnect", "CareConnect", "Appointments and messages to the care team", []string{"patient"}},
	{"fincare", "FinCare", "Invoices, payments and insurance claims", []string{"finance"}},
	{"medrecords", "MedRecords", "Patient charts", []string{"doctor"}},
	{"eps", "EPS", "Electronic prescriptions", []string{"doctor"}},
	{"medicloud", "Medicloud", "Documents and images", []string{"doctor", "external"}},
}

// caddyfile is the demo's config: the operator's syntax, so that the demo shows what it takes. The
// storage is not cleaned, because Caddy then keeps a file in the home directory.
func (d *demo) caddyfile() string {
	var b strings.Builder
	bind := strings.Join(d.hosts, " ")
	fmt.Fprintf(&b, `{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	local_certs
	default_bind %s
	storage file_system %q
	storage_clean_interval off
	grace_period 2s
	log {
		output file %q
	}
	anteroom {
		directory %q
		identity oidc demo {
			title "Demo account"
			issuer %s
			client_id anteroom-demo
			client_secret {env.ANTEROOM_DEMO_CLIENT_SECRET}
			roles_claim roles
			role patient from patient
			role doctor from doctor
			role finance from finance
			role external from external
		}
	}
}

%s {
	reverse_proxy %s
}

https://localhost:%d {
	hmac_service {
		token_file %q
		recovery %s
	}
}
`, bind, d.path("caddy"), d.path("demo.log"), d.path("anteroom"), d.issuer,
		d.address("localhost"), d.upstreams["start"], d.hmacPort, d.path("hmac.token"), d.recovery)
	for _, a := range apps {
		fmt.Fprintf(&b, "\n%s {\n\tanteroom {\n\t\tallow role %s\n\t}\n\treverse_proxy %s\n}\n",
			d.address(a.name+".localhost"), strings.Join(a.roles, ","), d.upstreams[a.name])
	}
	return b.String()
}
