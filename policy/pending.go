package policy

// judge finds what is wrong between lines.
func judge(*Config, []*rule) []*Problem { return nil }
