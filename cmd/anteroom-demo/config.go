package main

import (
	"fmt"
	"strings"
)

// app is one sample application: its host below localhost, what it is for, who may use it, and lines of its policy besides.
type app struct {
	name, title, about string
	roles              []string
	lines              []string
}

var apps = []app{
	{"careconnect", "CareConnect", "Appointments and messages to the care team", []string{"patient"}, []string{"expect doctor GET / deny"}},
	{"fincare", "FinCare", "Invoices, payments and insurance claims", []string{"finance"}, []string{"expect patient GET /invoices deny"}},
	{"medrecords", "MedRecords", "Patient charts", []string{"doctor"}, []string{
		"break_glass role external GET on /patients/{patient} for 30m",
		"expect external GET /patients/p1001 emergency", "expect patient GET /patients/p1001 deny",
	}},
	{"eps", "EPS", "Electronic prescriptions", []string{"doctor"}, []string{"expect external GET / deny"}},
	{"medicloud", "Medicloud", "Documents and images", []string{"doctor", "external"}, []string{"expect finance GET / deny"}},
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
	envelope_service {
		token_file %q
	}
}
`, bind, d.path("caddy"), d.path("demo.log"), d.path("anteroom"), d.issuer,
		d.address("localhost"), d.upstreams["start"], d.hmacPort, d.path("hmac.token"), d.recovery, d.path("envelope.token"))
	for _, a := range apps {
		lines := append([]string{"allow role " + strings.Join(a.roles, ","), "expect " + a.roles[0] + " GET / allow", "expect anonymous GET / login"}, a.lines...)
		fmt.Fprintf(&b, "\n%s {\n\tanteroom {\n\t\t%s\n\t}\n\treverse_proxy %s\n}\n",
			d.address(a.name+".localhost"), strings.Join(lines, "\n\t\t"), d.upstreams[a.name])
	}
	return b.String()
}
