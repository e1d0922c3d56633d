module dapr-token-injector/bench/go-minimal

go 1.26
