package condition

import "testing"

func BenchmarkEval(b *testing.B) {
	for name, text := range map[string]string{
		"hours":   `request.time.getHours("Europe/Brussels") < 20`,
		"role":    `"doctor" in user.roles`,
		"network": `inNetwork(request.address, "10.0.0.0/8")`,
		"mixed":   `request.time.getHours("Europe/Brussels") < 20 && "doctor" in user.roles && claim.dept == "cardio" && path.patient != ""`,
		"loop":    `user.roles.exists(r, r == "doctor")`,
		"regexp":  `request.path.matches("^/patients/[0-9]+/charts$")`,
	} {
		c, err := Compile(text, vars, claims)
		if err != nil {
			b.Fatal(err)
		}
		in := input()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := c.Eval(in); !ok && name != "hours" || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(`request.time.getHours("Europe/Brussels") < 20 && "doctor" in user.roles`, vars, claims); err != nil {
			b.Fatal(err)
		}
	}
}
