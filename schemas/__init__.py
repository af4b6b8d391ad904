"""What an alert is: framings, writer schemas, survey profiles, packets, stamps, annotations."""
