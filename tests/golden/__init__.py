"""A folder per case: what goes in, under which policy, and what must come out.

`pod.yaml`       the Pod under review; `workload.yaml` another object, `review.yaml` a whole review
`policy.yaml`    the cluster owner's policy, if it is not the default
`want.yaml`      the object after the patch; without it the answer must hold no patch
`case.yaml`      the rule, and all that is not the object: `cases.Case` names its members

A folder's name begins with the row of the conformance list that it shows, or with D for a rule of the design that no
row names.
"""
